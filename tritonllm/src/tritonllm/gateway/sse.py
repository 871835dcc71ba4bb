"""A stream of server-sent events as a plain ASGI response: headers, events, keep-alive comments, the client's departure.

Nothing is sent before there is a first event, so that a request that fails until then gets its real status; unless it
takes so long that a proxy would give up. While a client does not read, only its own stream waits: what the pipeline
sends meanwhile is merged into fewer events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.types import Receive, Scope, Send

from tritonllm import errors
from tritonllm.gateway import failures, records

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 15.0
"""Silence after which a comment is sent: a quarter of the 60 s after which load balancers drop a connection."""

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would collect the events and send many at once.
    (b"x-accel-buffering", b"no"),
]


class Events(Protocol):
    """What a stream consists of."""

    async def next(self) -> tuple[bytes, bool]:
        """Waits for the next events.

        Returns:
            Whole events, possibly none, and whether they are the last ones.

        Raises:
            RequestError: the request has failed.
        """
        ...

    def failed(self, error: errors.RequestError) -> bytes:
        """The events that end a stream that fails after it has begun."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Further headers of the response; asked when it begins."""
        ...

    def close(self) -> None:
        """Aborts the request if it has not ended."""
        ...


class EventStream:
    """The ASGI response.

    Args:
        events: what to send.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._started = False
        self._turn = asyncio.Lock()
        self._last = 0.0
        self._send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream; returns at once when the client has left."""
        self._send = send
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        departure = Departure(receive, self._events.close)
        comments = loop.create_task(self._keep_alive())
        try:
            async with departure:
                await self._run(scope, receive, send)
        finally:
            comments.cancel()
            self._events.close()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        last = False
        try:
            while not last:
                data, last = await self._events.next()
                if data or last:
                    await self._write(data, more=not last)
            return
        except errors.RequestError as failed:
            error = failed
        except Exception:
            log.exception("a stream failed")
            error = errors.RequestError(
                "internal", "", "the gateway failed unexpectedly; its log has the reason"
            )
        records.of(scope).fail(error.code)
        if self._started:
            await self._write(self._events.failed(error), more=False)
        else:
            await failures.response(error, self._events.headers())(scope, receive, send)

    async def _write(self, data: bytes, *, more: bool) -> None:
        async with self._turn:
            if not self._started:
                self._started = True
                further = [(name.encode(), value.encode()) for name, value in self._events.headers().items()]
                await self._send(
                    {"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *further]}
                )
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._last = asyncio.get_running_loop().time()

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, self._last + KEEP_ALIVE_SECONDS - loop.time()))
            if self._turn.locked():
                # The client does not read at the moment, so there is no silence.
                self._last = loop.time()
            elif loop.time() >= self._last + KEEP_ALIVE_SECONDS:
                await self._write(KEEP_ALIVE, more=True)


class Departure:
    """Within its block, the departure of the client cancels what the block waits for, and leaves the block.

    Args:
        receive: ASGI's; the body of the request has been read.
        close: called at once when the client has left.

    Attributes:
        happened: whether the client has left.
    """

    def __init__(self, receive: Receive, close: Callable[[], object]) -> None:
        self.happened = False
        self._receive = receive
        self._close = close
        self._task: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Departure:
        self._task = asyncio.current_task()
        self._waiting = asyncio.get_running_loop().create_task(self._wait())
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._waiting.cancel()
        if isinstance(error, asyncio.CancelledError) and self.happened and self._task is not None:
            # If it is more than one, the server has cancelled the task as well.
            return self._task.uncancel() == 0
        return False

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        self._close()
        if self._task is not None:
            self._task.cancel()
