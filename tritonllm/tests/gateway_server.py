"""The gateway behind a real uvicorn on loopback, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tritonllm.gateway import connections


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        server: uvicorn's.
    """

    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextlib.contextmanager
def serve(app: ASGIApp, **options: Any) -> Iterator[Served]:
    """Serves an application until the end of the block."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(
        app, **{**connections.options(), "log_config": None, "timeout_graceful_shutdown": 1, **options}
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert started.wait(60), "uvicorn does not start"
        yield Served(listening.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
        assert not thread.is_alive()
