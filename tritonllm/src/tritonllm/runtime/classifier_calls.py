"""Calls classifiers through Triton: one unary BLS call at a time for each, in a thread, because Triton blocks the caller.

Once Triton has begun to end this model, it answers no BLS calls of it, not even those under way. The requests that a pipeline
completes in that time are judged over Triton's HTTP port.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import urllib.request
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors
from tritonllm.ipc import names
from tritonllm.runtime import judging, threads

# What Triton says once it has begun to end the model that calls, a moment before the model knows.
_ENDING = "during the 'execute' function"
# No window may take longer; see `rules.classifier`.
_HTTP_SECONDS = 60.0
# A proxy of the environment is meant for other hosts.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


Call = Callable[[str, Sequence[str]], judging.Answers]


class TritonClassifiers:
    """See `judging.Classifiers`.

    The threads are daemons: a call that Triton does not answer any more must not keep the process from ending.

    Args:
        models: names of the classifiers.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self._ask: Call = _exec
        self._workers = {model: _worker(model) for model in models}
        self._numbers = itertools.count()
        # A call is answered by the thread that takes it out.
        self._open: dict[int, tuple[str, Sequence[str], Callable[[object], None]]] = {}

    def call(self, model: str, texts: Sequence[str], answer: Callable[[object], None]) -> None:
        """See `judging.Classifiers`."""
        number = next(self._numbers)
        self._open[number] = (model, texts, answer)

        def done(future: futures.Future[judging.Answers]) -> None:
            if self._open.pop(number, None):
                answer(future.exception() or future.result())

        self._workers[model].submit(self._ask, model, texts).add_done_callback(done)

    def leave(self) -> None:
        """See `judging.Classifiers`."""
        if os.environ.get(names.TRITON):
            self.close()
            self._ask = _ask_over_http
            self._workers = {model: _worker(model) for model in self._workers}
            for number in list(self._open):
                if unanswered := self._open.pop(number, None):
                    self.call(*unanswered)

    def close(self) -> None:
        """See `judging.Classifiers`."""
        for worker in self._workers.values():
            worker.close()


def _worker(model: str) -> threads.Worker:
    return threads.Worker(f"classifier-{model}")


def _exec(model: str, texts: Sequence[str]) -> judging.Answers:
    rows = np.array([[text.encode()] for text in texts], dtype=np.object_)
    request = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[pb_utils.Tensor("text", rows)],
        requested_output_names=["label", "score"],
    )
    try:
        response = request.exec()
        problem = response.error().message() if response.has_error() else ""
    except pb_utils.TritonModelException as error:
        response, problem = None, str(error)
    if _ENDING in problem and os.environ.get(names.TRITON):
        return _ask_over_http(model, texts)
    if response is None or problem:
        raise _unavailable(model, problem)
    outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
    labels = [[label.decode() for label in row] for row in outputs["label"].tolist()]
    return _scores(labels, outputs["score"].tolist())


def _ask_over_http(model: str, texts: Sequence[str]) -> judging.Answers:
    """Asks as any client does."""
    url = os.environ[names.TRITON]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts), 1], "data": list(texts)}
    asked = urllib.request.Request(
        f"{url}/v2/models/{model}/infer", data=json.dumps({"inputs": [tensor]}).encode(), method="POST"
    )
    try:
        with _OPENER.open(asked, timeout=_HTTP_SECONDS) as answer:
            found = {output["name"]: output for output in json.load(answer)["outputs"]}
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(model, str(error)) from None
    width = found["score"]["shape"][1]
    labels, scores = (
        [data[at : at + width] for at in range(0, len(data), width)]
        for data in (found["label"]["data"], found["score"]["data"])
    )
    return _scores(labels, scores)


def _scores(labels: list[list[str]], scores: list[list[float]]) -> judging.Answers:
    return [dict(zip(*row, strict=True)) for row in zip(labels, scores, strict=True)]


def _unavailable(model: str, reason: str) -> errors.RequestError:
    return errors.RequestError("unavailable", "", f"the classifier {model} can't be called: {reason}")
