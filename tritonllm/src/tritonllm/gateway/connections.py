"""A connection of the gateway: uvicorn's, with the limits that it lacks for clients that occupy it without asking.

uvicorn 0.54 with httptools bounds only the time that a connection is idle after an answer. A client that connects and
sends nothing, sends its headers byte by byte or without an end, or does not read its answer, would keep its
connection, or fill the memory, for as long as it likes. `--limit-concurrency` would refuse everybody then, and
`--h11-max-incomplete-event-size` is for the slower h11 parser.
"""

from __future__ import annotations

import asyncio
import http
import socket
from typing import Any, ClassVar

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tritonllm import errors
from tritonllm.gateway import error_responses

HEADER_SECONDS = 10.0
"""Time in which the headers of a request have to arrive, from its first byte or from the start of the connection."""

HEADER_BYTES = 32 * 1024
"""Maximum size of a request's first line and headers together; twice the usual limit of proxies."""

WRITE_SECONDS = 60.0
"""Time after which a client that reads nothing of its answer is disconnected, and its request aborted."""

KEEP_ALIVE_SECONDS = 75
"""Time that a connection may be idle between requests: longer than load balancers keep theirs, 60 s in most."""


# How long a client that was refused may go on sending: if its connection were closed at once, it could not read why.
_LINGER_SECONDS = 1.0

# A silent client is probed this often, and given up after `WRITE_SECONDS` without a sign of it.
_PROBE_SECONDS = 20

_TOO_LARGE = f"The headers of the request are larger than {HEADER_BYTES} bytes"


# workaround: W24
class Connection(HttpToolsProtocol):
    """A connection from a client."""

    header_seconds: ClassVar[float] = HEADER_SECONDS
    write_seconds: ClassVar[float] = WRITE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Creates a connection; called by uvicorn."""
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._between_requests = True
        self._in_headers = False
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Starts to wait for the first request."""
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(self.header_seconds, self._headers_late)
        connection = transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            # A client whose machine or network has vanished sends no FIN; without these, it would be waited for.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_SECONDS * 1000))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting for anything."""
        self._stop_header_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads what has arrived."""
        if self._refused:
            return
        # Bytes that follow the end of another request in one read are not counted.
        counts = self._between_requests or self._in_headers
        super().data_received(data)
        if self._in_headers and counts:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self._refuse(431, "request_too_large", _TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._between_requests, self._in_headers, self._header_bytes = False, True, 0
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self._headers_late)

    def on_headers_complete(self) -> None:
        """The headers of a request are there."""
        self._in_headers = False
        self._stop_header_timer()
        app = self.app
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            # Too large, but so small that one read had all of it.
            self.app = _refuse_headers
        super().on_headers_complete()
        self.app = app

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._between_requests = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Gives a client that does not read its answer some time."""
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._stop_write_timer()

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._is_answering():
            # The headers are those of another request, which waits for the end of this answer anyway.
            self._header_timer = self.loop.call_later(self.header_seconds, self._headers_late)
        elif self._in_headers:
            message = f"The headers of the request did not arrive within {self.header_seconds:g} s"
            self._refuse(408, "request_timeout", message)
        else:
            self.transport.close()

    def _refuse(self, status: int, code: errors.Code, message: str) -> None:
        if self.transport.is_closing():
            return
        self._refused = True
        self._stop_header_timer()
        if self._is_answering():
            # The answer to the request before would be garbled.
            self.transport.abort()
            return
        content = error_responses.body(code, message)
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


async def _refuse_headers(_: Scope, __: Receive, send: Send) -> None:
    close = [(b"connection", b"close")]
    await error_responses.respond(send, "request_too_large", _TOO_LARGE, close, 431)


def options() -> dict[str, Any]:
    """The arguments of `uvicorn.Config` that belong to these limits and to the gateway's own log."""
    return {
        "http": Connection,
        "loop": "uvloop",
        "ws": "none",
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }
