"""Sends what the engine says to Triton, several tokens at a time when many streams are open.

Each response wakes engine, Triton and pipeline one after the other, and costs them about half a millisecond
together, whatever it carries; with many streams one response per token is what limits throughput. So one thread
sends for all streams. A stream's
first text and its end go out at once; what comes between waits a little, longer the more streams there are.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from tritonllm import errors
from tritonllm.runtime import answer, backend, doorbell, requests, wire

log = logging.getLogger(__name__)

# Measured with a model that costs next to nothing, on two cores: with fewer tokens to a response, sending them
# takes the time that generating needs; with a longer wait, readers see it.
STREAMS_PER_TOKEN = 2
MOST_TOKENS = 8
LONGEST_WAIT_SECONDS = 0.2


def wait_seconds(streams: int, updates_per_second: float) -> float:
    """How long texts wait for company.

    Args:
        streams: how many are open. Up to `STREAMS_PER_TOKEN` nobody waits; beyond, a response shall carry a token
            for each so many streams.
        updates_per_second: how fast tokens come, of all streams together.
    """
    tokens = min(MOST_TOKENS, streams // STREAMS_PER_TOKEN)
    if tokens <= 1 or updates_per_second <= 0:
        return 0.0
    return min(LONGEST_WAIT_SECONDS, tokens * streams / updates_per_second)


class Stream:
    """A request that the engine is answering.

    Args:
        sender: Triton's response sender of the request.
        request: what was asked.
        ringer: of the pipeline that asks; None for a client.
    """

    def __init__(self, sender: Any, request: requests.Request, ringer: doorbell.Ringer | None) -> None:
        self.request = request
        self.answer = answer.Answer(request.sampling.n or 1)
        self.error: errors.RequestError | None = None
        self.begun = False
        self._sender = sender
        self._ringer = ringer
        self._closed = False
        self._sending = threading.Lock()

    @property
    def behind_pipeline(self) -> bool:
        """Whether a pipeline asks, and not a client."""
        return self._ringer is not None

    @property
    def over(self) -> bool:
        """Whether only the last response is left to send."""
        return self.error is not None or self.answer.finished

    def send(self, outputs: dict[str, Any] | errors.RequestError, *, last: bool) -> None:
        """Sends a response."""
        with self._sending:
            self._closed = last
            if last:
                wire.send_last(self._sender, self._response(outputs))
            else:
                self._sender.send(self._response(outputs))
            if self._ringer:
                self._ringer.ring()
                if last:
                    self._ringer.close()

    def client_is_gone(self) -> bool:
        """Whether Triton has seen the client leave.

        Asked of a sender that another thread has closed meanwhile, tritonserver 24.10 dies of it.
        """
        with self._sending:
            return not self._closed and self._sender.is_cancelled()

    def _response(self, outputs: dict[str, Any] | errors.RequestError) -> Any:
        if isinstance(outputs, dict):
            return wire.response(outputs)
        return wire.failure(outputs) if self.behind_pipeline else wire.error(outputs)


class Outbox:
    """The sending thread of an engine model."""

    def __init__(self) -> None:
        self._open: set[Stream] = set()
        self._urgent: dict[Stream, None] = {}
        self._waiting: dict[Stream, None] = {}
        self._updates = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def open(self, stream: Stream) -> None:
        """Counts a stream in until its last response is sent."""
        with self._changed:
            self._open.add(stream)

    def put(self, stream: Stream, update: backend.Update) -> None:
        """Takes what is new in a stream."""
        with self._changed:
            stream.answer.update(update)
            self._updates += 1
            self._note(stream)

    def fail(self, stream: Stream, error: errors.RequestError) -> None:
        """Ends a stream with an error."""
        with self._changed:
            stream.error = error
            self._note(stream)

    def close(self) -> None:
        """Sends what is left and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _note(self, stream: Stream) -> None:
        if stream.over or (stream.request.stream and not stream.begun):
            self._waiting.pop(stream, None)
            self._urgent[stream] = None
        elif stream.request.stream and stream not in self._urgent:
            self._waiting[stream] = None
            if len(self._waiting) > 1:
                # The thread has been told by the first; it comes when their time is over.
                return
        else:
            return
        self._changed.notify()

    def _run(self) -> None:
        flushed, wait, speed = time.monotonic(), 0.0, 0.0
        while True:
            with self._changed:
                while not self._urgent and not (self._waiting and time.monotonic() >= flushed + wait):
                    if self._closed and not self._waiting:
                        return
                    left = max(0.0, flushed + wait - time.monotonic())
                    self._changed.wait(left if self._waiting else None)
                if self._urgent:
                    due, self._urgent = self._urgent, {}
                else:
                    due, self._waiting = self._waiting, {}
                    now = time.monotonic()
                    # The mean of what was and what is, as one flush may find many tokens and the next few.
                    speed = (speed + self._updates / max(now - flushed, 1e-6)) / 2
                    flushed, self._updates = now, 0
                    wait = wait_seconds(len(self._open), speed)
                sendings = [(stream, stream.over, self._outputs(stream)) for stream in due]
                self._open.difference_update(stream for stream, over, _ in sendings if over)
            for stream, over, outputs in sendings:
                try:
                    stream.send(outputs, last=over)
                except Exception:
                    log.exception("a response could not be sent")

    def _outputs(self, stream: Stream) -> dict[str, Any] | errors.RequestError:
        stream.begun = True
        return stream.error or stream.answer.outputs(stream.request, last=stream.over)
