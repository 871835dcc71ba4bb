"""The private stream between two processes: length-prefixed JSON over a Unix socket.

A pipeline asks its engine over one, and the gateway its pipelines. A frame is a four-byte big-endian length and a JSON
list of messages; a message is a list that starts with its kind. One connection carries all requests of a process. What
is new within one turn of the event loop travels in one frame. While the socket is not writable nothing is sent, and
updates of the same request are merged: a slow reader gets fewer, longer updates and never an unbounded queue.

JSON because it is enough: for 64 deltas, `json` and msgpack differ by a few microseconds, as creating the objects
is most of the cost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import Iterator
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

# From the process that asks: the pipeline to the engine, the gateway to the pipeline.
HELLO: Final = "hello"
"""`[token, owner]`: the first message; the connection is closed if the token is wrong."""
GENERATE: Final = "generate"
"""To an engine `[number, text, messages, sampling parameters, chat options, adapter]`, to a pipeline
`[number, inputs]`."""
CHECK: Final = "check"
"""`[number, text, direction]`: apply the rules to a text; to a pipeline."""
ABORT: Final = "abort"
"""`[number]`"""
ADAPTERS: Final = "adapters"
"""`[adapters]`: all that the pipeline wants, to an engine; how each of them is, of an engine, after each change."""
RELEASE: Final = "release"
"""`[lease]`: its last request has ended; to an engine."""

# From the process that answers.
WELCOME: Final = "welcome"
"""`[description]`: the first message of a pipeline; again when it has changed."""
CLOSING: Final = "closing"
"""`[]`: a pipeline is to be unloaded; the gateway sends no more requests, and closes the connection when it has received
its last answer."""
RETURNED: Final = "returned"
"""`[number]`: a pipeline that is to be unloaded has not begun with the request; it has to be sent to another process."""
UPDATE: Final = "update"
"""`[number, *fields of the update]`; of an engine."""
RESPONSE: Final = "response"
"""`[number, outputs, final]`; of a pipeline."""
ERROR: Final = "error"
"""`[number, text]`: the text of a RequestError."""
RELEASED: Final = "released"
"""`[lease]`: Triton has received the lease's final response; of an engine."""

Message = list[Any]

_LENGTH = struct.Struct("!I")


class Update(Protocol):
    """What is new of a request."""

    def merge(self, later: Any) -> None:
        """Appends the update that followed this one."""
        ...

    def fields(self) -> list[Any]:
        """As it travels."""
        ...


def encode(messages: list[Message]) -> bytes:
    """One frame."""
    body = json.dumps(messages, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Splits received bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Message]]:
        """Yields the messages of each frame that is complete.

        Raises:
            ValueError: a frame is not JSON.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                end = start + _LENGTH.size + length
                if len(buffer) < end:
                    break
                messages = json.loads(buffer[start + _LENGTH.size : end])
                start = end
                yield messages
        finally:
            del buffer[:start]


class Channel(asyncio.Protocol):
    """One end of the stream; subclasses implement `received` and `closed`.

    Args:
        loop: the event loop that calls it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._decoder = Decoder()
        self._transport: Any = None
        self._writable = False
        self._scheduled = False
        self._messages: list[Message] = []
        self._updates: dict[int, Update] = {}

    def received(self, messages: list[Message]) -> None:
        """Handles the messages of one frame."""
        raise NotImplementedError

    def writable(self) -> None:
        """Called when the socket takes data again after it did not."""

    @property
    def congested(self) -> bool:
        """Whether the peer reads more slowly than it is written to."""
        return not self._writable

    def closed(self) -> None:
        """Handles the end of the connection, whichever side closed it; called once."""
        raise NotImplementedError

    def post(self, *message: Any) -> None:
        """Sends a message with the next frame, after the updates that precede it."""
        self._messages.append(list(message))
        self._schedule()

    def post_update(self, number: int, update: Update) -> None:
        """Sends an update with the next frame, merged with one that still waits."""
        waiting = self._updates.get(number)
        if waiting is None:
            self._updates[number] = update
        else:
            waiting.merge(update)
        self._schedule()

    def discard(self, number: int) -> None:
        """Drops the update of a request that waits to be sent, if any."""
        self._updates.pop(number, None)

    def close(self) -> None:
        """Closes the connection; what has been posted is sent first."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = transport
        # Anything that the socket does not take at once pauses us: merging beats buffering.
        self._transport.set_write_buffer_limits(high=0)
        self._writable = True
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._writable = False
        self.closed()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        try:
            for messages in self._decoder.feed(data):
                self.received(messages)
        except Exception:
            # A peer that does not speak this protocol, or a bug: what follows can't be understood any more.
            log.exception("a message on the private stream could not be handled; the connection is closed")
            self._transport.abort()

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self._writable = False

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._writable = True
        self.writable()
        self._schedule()

    def _schedule(self) -> None:
        if self._writable and not self._scheduled and (self._updates or self._messages):
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._writable or not (self._updates or self._messages):
            return
        frame: list[Message] = [
            [UPDATE, number, *update.fields()] for number, update in self._updates.items()
        ]
        frame += self._messages
        self._updates = {}
        self._messages = []
        self._transport.write(encode(frame))
