"""Endpoints whose answers a test writes down: what the pipeline would send for each request, output by output."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import fake_upstream
from tritonllm import errors
from tritonllm.gateway import calls, upstream

Script = Sequence[upstream.Outputs | errors.RequestError]
"""Responses in order; the last one is final. An error ends the request."""


class ScriptedUpstream(fake_upstream.FakeUpstream):
    """Has the endpoint `chat`.

    Args:
        script: what it answers.
        refusal: of the endpoint.

    Attributes:
        asked: the inputs of every request.
        calls: the requests.
        closed: number of requests that were given up before their end.
    """

    def __init__(self, script: Script | Callable[[dict[str, Any]], Script], refusal: str = "Error") -> None:
        super().__init__("chat")
        self.script = script
        self.refusal = refusal
        self.asked: list[dict[str, Any]] = []
        self.calls: list[calls.Call] = []
        self.closed = 0
        self.held = False

    def endpoints(self) -> dict[str, upstream.Endpoint]:
        refusal: Any = self.refusal
        return {"chat": upstream.Endpoint("chat", 1700000000.5, "policy-hash", refusal, 8192)}

    def submit(self, endpoint: str, inputs: Any) -> calls.Call:
        if endpoint != "chat":
            raise errors.RequestError(
                "model_not_found", "model", f"the endpoint {endpoint} does not exist or is not loaded"
            )
        self.asked.append(dict(inputs))
        call = calls.Call(len(self.calls))
        call.on_close = self._closed
        self.calls.append(call)
        script = self.script(self.asked[-1]) if callable(self.script) else self.script
        for index, response in enumerate(script):
            if isinstance(response, errors.RequestError):
                call.failed(response)
            else:
                call.arrived(response, final=index == len(script) - 1 and not self.held)
        return call

    def sampling(self) -> dict[str, Any]:
        """The sampling parameters of the last request."""
        return json.loads(self.asked[-1]["sampling_parameters"])

    def _closed(self, _: int) -> None:
        self.closed += 1


def piece(*texts: str, **outputs: Any) -> upstream.Outputs:
    """A response with a text for each choice, and a token of each."""
    return {"text_output": list(texts), "num_output_tokens": [1] * len(texts), **outputs}


def end(
    *texts: str, reason: str = "stop", guardrail: Sequence[dict[str, Any]] = (), **outputs: Any
) -> upstream.Outputs:
    """The last response."""
    return piece(
        *texts,
        **{
            "finish_reason": [reason] * len(texts),
            "num_input_tokens": [7],
            "guardrail": [json.dumps(list(guardrail))],
            **outputs,
        },
    )
