"""Calls classifiers through Triton: one unary BLS call at a time for each, in a thread, because Triton blocks the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors
from tritonllm.runtime import threads


class TritonClassifiers:
    """See `judging.Classifiers`.

    The threads are daemons: a call that Triton does not answer any more must not keep the process from ending.

    Args:
        models: names of the classifiers.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self._workers = {model: threads.Worker(f"classifier-{model}") for model in models}

    def call(self, model: str, texts: Sequence[str], answer: Callable[[object], None]) -> None:
        """See `judging.Classifiers`."""

        def done(future: futures.Future[list[dict[str, float]]]) -> None:
            answer(future.exception() or future.result())

        self._workers[model].submit(_exec, model, texts).add_done_callback(done)

    def close(self) -> None:
        """See `judging.Classifiers`."""
        for worker in self._workers.values():
            worker.close()


def _exec(model: str, texts: Sequence[str]) -> list[dict[str, float]]:
    rows = np.array([[text.encode()] for text in texts], dtype=np.object_)
    request = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[pb_utils.Tensor("text", rows)],
        requested_output_names=["label", "score"],
    )
    try:
        response = request.exec()
    except pb_utils.TritonModelException as error:
        raise _unavailable(model, str(error)) from None
    if response.has_error():
        raise _unavailable(model, response.error().message())
    outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
    return [
        {label.decode(): score for label, score in zip(labels, scores, strict=True)}
        for labels, scores in zip(outputs["label"], outputs["score"].tolist(), strict=True)
    ]


def _unavailable(model: str, reason: str) -> errors.RequestError:
    return errors.RequestError("unavailable", "", f"the classifier {model} can't be called: {reason}")
