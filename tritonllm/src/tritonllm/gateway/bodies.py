"""The body of a request, read whole before the routes see it: at most so many bytes, in at most so many seconds.

OpenAI's API is JSON, so every route needs the whole body anyway. Reading it here bounds both what a request can
occupy and for how long, also if it is sent in chunks without a length.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonllm import api
from tritonllm.gateway import error_responses, records

MAX_BYTES = api.CHARACTERS_PER_TOKEN * api.ASSUMED_CONTEXT * 4
"""Default limit, 8 MiB: the longest prompt that an endpoint reads, with 4 bytes of UTF-8 per character."""

TIMEOUT_SECONDS = 30.0
"""Default limit of the time in which a body has to arrive."""

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class BodyLimit:
    """ASGI middleware that answers 413 to a body that is too large, and 408 to one that does not arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        if _length(scope) > self._max_bytes:
            # The server discards what the client still sends, so that the client gets to read the answer.
            await self._refuse_large(scope, send)
            return
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._read(receive)
        except TimeoutError:
            records.of(scope).fail("request_timeout")
            message = f"The body of the request did not arrive within {self._timeout:g} s"
            await error_responses.respond(send, "request_timeout", message, [_CLOSE])
            return
        except _TooLarge:
            await self._refuse_large(scope, send, [_CLOSE])
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; None if the client has left."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size <= self._max_bytes:
                parts.append(message.get("body", b""))
            # A client that is cut off while it sends cannot read why, so it may send some more.
            elif not more or size > 2 * self._max_bytes:
                raise _TooLarge
        return b"".join(parts)

    async def _refuse_large(self, scope: Scope, send: Send, headers: error_responses.Headers = ()) -> None:
        records.of(scope).fail("request_too_large")
        message = f"The body of the request is larger than {self._max_bytes} bytes"
        await error_responses.respond(send, "request_too_large", message, headers)


_CLOSE = (b"connection", b"close")


class _TooLarge(Exception):
    pass


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            # The server has checked it.
            return int(value)
    return 0


def _replay(body: bytes, receive: Receive) -> Receive:
    """ASGI's `receive` with a body that was read before."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def receive_again() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        first, message = message, None
        return first

    return receive_again
