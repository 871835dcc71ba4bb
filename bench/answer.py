"""One streamed answer over HTTP: when each of its texts arrived, and whether it is complete."""

from __future__ import annotations

import asyncio
import re
import time

# A token can be half a character, and the last event of an answer has no text.
_EMPTY = re.compile(rb'"text(?:_output)?": ?""')
_FINISHED = re.compile(rb'"finish_reason": ?"(\w+)"')
_ERROR = re.compile(rb'"error": ?(?!null)')


class Failure(Exception):
    """A measurement that can't be made; its text is one sentence."""


class Answer(asyncio.Protocol):
    """One request on a connection of its own, which the server closes at the end of the answer.

    Events are found by their ends and not by the chunks of the transfer encoding: servers send an event in one chunk.

    Attributes:
        times: when each text arrived, by the monotonic clock.
        done: when the answer is complete, or why it is not.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._finish_reason = ""
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._rest += data
        if self._in_head:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            # What follows another status is an error's text, shown when the connection ends.
            if not found or head.split(b" ", 2)[1] != b"200":
                return
            self._in_head, self._rest = False, rest
        while (end := self._rest.find(b"\n\n")) >= 0:
            self._event(self._rest[:end], now)
            self._rest = self._rest[end + 2 :]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if self._in_head or self._finish_reason != "length":
            reason = f"finish reason {self._finish_reason!r}" if self._finish_reason else "no finish reason"
            shown = " ".join(self._rest[-500:].decode(errors="replace").split())
            self.done.set_exception(Failure(f"an answer ended with {reason}: {exc or shown or 'no text'}"))
        else:
            self.done.set_result(None)

    def _event(self, event: bytes, now: float) -> None:
        if _ERROR.search(event):
            if not self.done.done():
                text = event.partition(b"data: ")[2].decode(errors="replace")
                self.done.set_exception(Failure(f"an answer ended with an error: {text}"))
            return
        if finished := _FINISHED.search(event):
            self._finish_reason = finished[1].decode()
        if b"data: {" in event and not _EMPTY.search(event):
            self.times.append(now)
