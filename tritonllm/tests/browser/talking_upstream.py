"""An endpoint that says what the page has to show: masked, flagged and blocked turns, failures, a long story."""

from __future__ import annotations

import json
import threading
from typing import Any, Literal

import fake_upstream
from scripted_upstream import end, piece
from tritonllm import errors
from tritonllm.gateway import calls
from tritonllm.gateway.upstream import Endpoint

STORY = "Once upon a time there was a server. It answered all who asked, one token after the other. " * 12
MASKED = [
    {"rule": "cities", "action": "Mask", "direction": "output", "count": 1},
    {"rule": "mails", "action": "Flag", "direction": "output", "count": 1},
]
BLOCKED = [{"rule": "secrets", "action": "Block", "direction": "output", "count": 1}]


class TalkingUpstream(fake_upstream.FakeUpstream):
    """The endpoints.

    Attributes:
        asked: of each request: the endpoint, its messages and its sampling parameters.
        refusal: of the endpoints.
        left: set when an answer that goes on was given up.
    """

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.asked: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = []
        self.left = threading.Event()
        self.refusal: Literal["Error", "Message"] = "Error"

    def endpoints(self) -> dict[str, Endpoint]:
        return {name: Endpoint(name, 1, "hash", self.refusal) for name in self.names}

    def submit(self, endpoint: str, inputs: Any) -> calls.Call:
        messages = json.loads(inputs["messages"])
        self.asked.append((endpoint, messages, json.loads(inputs.get("sampling_parameters", "{}"))))
        text = messages[-1]["content"]
        call = calls.Call()
        call.on_close = lambda _: self.left.set()
        found = self.verdict(text, "input")
        if found.blocked:
            call.arrived(end("", reason="content_filter", guardrail=found.guardrail), final=True)
        elif "busy" in text:
            call.failed(errors.RequestError("queue_full", "", "the queue of the endpoint is full"))
        elif "wait" in text:
            call.arrived(piece("Let me think"), final=False)
        elif "break" in text:
            call.arrived(piece("This goes wr"), final=False)
            call.failed(errors.RequestError("engine_failure", "", "the engine failed"))
        elif "Germany" in text:
            say(call, "The capital of Germany is [REDACTED]. Write to us by mail.", guardrail=[*found.guardrail, *MASKED])  # fmt: skip
        elif "plans" in text:
            say(call, "The plans of the project are ", reason="content_filter", guardrail=BLOCKED)
        else:
            say(call, STORY if "story" in text else f"You wrote: {text}\nBye, ü €.", guardrail=found.guardrail)  # fmt: skip
        return call


def say(call: calls.Call, text: str, **ending: Any) -> None:
    for start in range(0, len(text), 7):
        call.arrived(piece(text[start : start + 7]), final=False)
    call.arrived(end("", **ending), final=True)
