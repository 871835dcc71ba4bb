"""One client's request inside the pipeline: answered exactly once, whoever comes first.

The worker that runs the request, the watcher that enforces its deadline and a failure may all want to
end it. Each goes through `Call`, which lets one of them through.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from tritonllm import errors
from tritonllm.runtime import answer, requests, wire


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended, for the metrics."""

    outcome: str
    seconds: float
    first_token_seconds: float | None
    inter_token_seconds: float | None
    input_tokens: int
    output_tokens: int
    guardrail_failures: int
    verdicts: list[dict[str, Any]]


class Call:
    """A request that is owed an answer.

    Args:
        sender: Triton's response sender of the request.
        request: what was asked.
        arrived: `time.monotonic()` of its arrival.
        deadline: `time.monotonic()` at which it ends with what it has.
        on_end: told once how it ended.
    """

    def __init__(
        self,
        sender: Any,
        request: requests.Request,
        arrived: float,
        deadline: float,
        on_end: Callable[[Ending], None],
    ) -> None:
        self.id = uuid.uuid4().hex
        self.request = request
        self.deadline = deadline
        self.done = False
        self.answer = answer.Answer(request.sampling.n or 1)
        self._sender = sender
        self._on_end = on_end
        self._arrived = arrived
        self._first: float | None = None
        self._latest: float | None = None
        self._lock = threading.Lock()

    def client_is_gone(self) -> bool:
        """Whether Triton has seen the client leave.

        Asked of a sender that another thread has closed meanwhile, tritonserver 24.10 dies of it.
        """
        with self._lock:
            return not self.done and self._sender.is_cancelled()

    def begin(self, growing: answer.Answer) -> bool:
        """Puts the answer, made by the endpoint's rules, in place of the empty one.

        Returns:
            Whether the call goes on.
        """
        with self._lock:
            self.answer = growing
            return not self.done

    def prepend(self, prompt: str) -> None:
        """Puts the prompt in front of the answer."""
        with self._lock:
            self.answer.feed(prompt)

    def update(self, values: Any) -> bool:
        """Takes an update from the engine and passes on what may leave.

        Returns:
            Whether the call goes on.
        """
        with self._lock:
            if self.done:
                return False
            now = time.monotonic()
            self._first = self._first or now
            self._latest = now
            self.answer.update(values)
            if self.answer.finished:
                self._finish("")
            elif self.request.stream:
                outputs = self.answer.outputs(self.request, last=False)
                if any(outputs["text_output"]) or len(outputs) > 1:
                    self._sender.send(wire.response(outputs))
            return not self.done

    def end(self, reason: str) -> None:
        """Ends the call with what it has, unless it has ended."""
        with self._lock:
            if not self.done:
                try:
                    self.answer.end(reason)
                    self._finish(reason)
                except errors.RequestError as error:
                    self._close(error.code, wire.error(error))

    def fail(self, error: errors.RequestError) -> None:
        """Ends the call with an error, unless it has ended."""
        with self._lock:
            if not self.done:
                self._close(error.code, wire.error(error))

    def _finish(self, outcome: str) -> None:
        outputs = self.answer.outputs(self.request, last=True)
        outputs["guardrail"] = [json.dumps(self.answer.verdicts())]
        self._close(outcome or outputs["finish_reason"][0], wire.response(outputs))

    def _close(self, outcome: str, response: Any) -> None:
        spent = self._latest and self._first and self._latest - self._first
        tokens = self.answer.output_tokens
        self.done = True
        ending = Ending(
            outcome=outcome,
            seconds=time.monotonic() - self._arrived,
            first_token_seconds=self._first and self._first - self._arrived,
            inter_token_seconds=spent / (tokens - 1) if spent and tokens > 1 else None,
            input_tokens=self.answer.input_tokens,
            output_tokens=tokens,
            guardrail_failures=self.answer.failures,
            verdicts=self.answer.verdicts(),
        )
        # The answer goes first: nothing that fails after it can cost the client its answer.
        wire.send_last(self._sender, response)
        self._on_end(ending)
