"""The pipeline's side of the link to its engine: calls through Triton (BLS) that can be stopped.

A call that streams can't be cancelled through its iterator before Triton 25.04, nor before its first
response in any release. So every call has an id, and a second, short call stops it by that id.
"""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors
from tritonllm.runtime import backend, doorbell, engine_token, requests, wire

# A response iterator that Python lets go of while Triton still cleans up behind it takes the process
# down with it (the clean-up frees Python objects without holding the interpreter's lock). So finished
# iterators are kept this long, and let go by a thread of Python's own.
KEEP_SECONDS = 60

# Tokens are counted as they come: an answer that is cut has no last update to count them.
_ASKED = ("return_num_input_tokens", "return_num_output_tokens")
_PASSED_ON = ("return_logprobs", "return_cumulative_logprob", "return_finish_reason")


class Engine:
    """Calls the engine model of an endpoint.

    Args:
        model: name of the engine model.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._token = engine_token.current()
        self._kept: collections.deque[tuple[float, Any]] = collections.deque()
        self._stops = futures.ThreadPoolExecutor(4, thread_name_prefix="stop")

    def generate(self, call_id: str, request: requests.Request) -> Iterator[backend.Update]:
        """Streams the engine's updates for a request; must be read to its end.

        Raises:
            RequestError: the engine refused the request, or failed.
        """
        inputs: dict[str, Any] = {"stream": True, "sampling_parameters": json.dumps(request.sampling.given())}
        if request.messages is not None:
            inputs["messages"] = json.dumps(request.messages)
        else:
            inputs["text_input"] = request.text
        inputs |= dict.fromkeys(_ASKED, True)
        inputs |= {flag: True for flag in _PASSED_ON if request.flags.get(flag)}
        outputs = ["text_output", "finish_reason", "num_input_tokens", "num_output_tokens"]
        outputs += [name for name in ("logprobs", "cumulative_logprob") if request.wants(name)]
        with doorbell.Doorbell(call_id) as bell:
            replies = self._exec({"id": call_id}, inputs, outputs)
            arrived = bell.arrived(replies)
            try:
                for reply in arrived:
                    values = wire.outputs(reply)
                    if values:
                        yield _update(values)
            finally:
                _exhaust(arrived)
                self._leave(replies)

    def stop(self, call_id: str) -> None:
        """Stops a call, soon; one that has ended or was never made is none of its concern."""
        self._stops.submit(self._stop, call_id)

    def release(self) -> None:
        """Lets go of the iterators that have been kept long enough."""
        now = time.monotonic()
        while self._kept and self._kept[0][0] < now:
            self._kept.popleft()

    def close(self) -> None:
        """Waits for the stops under way."""
        self._stops.shutdown()

    def _stop(self, call_id: str) -> None:
        self._leave(self._exec({"stop": call_id}, {}, ["text_output"]))

    def _exec(self, private: dict[str, str], inputs: dict[str, Any], outputs: list[str]) -> Any:
        """Asks the engine; returns Triton's iterator of its responses once the first is there."""
        request = pb_utils.InferenceRequest(
            model_name=self._model,
            inputs=[wire.tensor(name, [value]) for name, value in inputs.items()],
            requested_output_names=outputs,
            parameters={
                wire.PRIVATE + key: value for key, value in ({"token": self._token} | private).items()
            },
        )
        try:
            return request.exec(decoupled=True)
        except pb_utils.TritonModelException as error:
            raise errors.RequestError(
                "unavailable", "", f"the engine {self._model} can't be asked: {error}"
            ) from None

    def _leave(self, replies: Any) -> None:
        """Ends the use of an iterator: one that is left before its end leaks, and its engine can't be unloaded."""
        _exhaust(replies)
        self._kept.append((time.monotonic() + KEEP_SECONDS, replies))


def _exhaust(iterator: Iterator[Any]) -> None:
    # Not with `for`: it would begin Triton's iterator anew where that has ended.
    while next(iterator, None) is not None:
        pass


def _update(values: dict[str, list[Any]]) -> backend.Update:
    texts = values["text_output"]
    logprobs = values.get("logprobs")
    return backend.Update(
        texts=texts,
        finish_reasons=[
            None if reason == "None" else reason
            for reason in values.get("finish_reason", ["None"] * len(texts))
        ],
        input_tokens=values.get("num_input_tokens", [0])[0],
        output_tokens=values.get("num_output_tokens", [0] * len(texts)),
        logprobs=logprobs and [json.loads(text) for text in logprobs],
        cumulative_logprobs=values.get("cumulative_logprob"),
    )
