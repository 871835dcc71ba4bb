"""The engine's side of the private stream: runs the requests of its pipelines, sends their updates.

It listens on a Unix socket in a directory that only this user can enter. One event loop, the backend's, owns
everything here. A connection that is closed aborts the requests that came over it, so a pipeline that is gone never
occupies the engine.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonllm import errors, sampling
from tritonllm.runtime import backend, channel, engine_token

DIRECTORY = "TRITONLLM_RUN_DIRECTORY"
"""Names a private directory that outlives this process; without it the engine makes one of its own."""
# unix(7): 108 bytes with the final zero.
_LONGEST_PATH = 107


class EngineServer:
    """Listens for pipelines.

    Attributes:
        path: of the socket.

    Args:
        loop: the event loop that owns it.
        engine: generates the text.
        on_release: called with the name of a lease that its pipeline has released and a function that reports to
            the pipeline that Triton has received the lease's end.
        on_disconnect: called with the owner of leases whose connection is closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: backend.Backend,
        on_release: Callable[[str, Callable[[], None]], None],
        on_disconnect: Callable[[str], None],
    ) -> None:
        self.loop = loop
        self.engine = engine
        self.on_release = on_release
        self.on_disconnect = on_disconnect
        self.connections: set[_Connection] = set()
        # Random, so that a reloaded engine listens beside the one it replaces.
        name = f"engine-{secrets.token_hex(8)}.sock"
        directory = os.environ.get(DIRECTORY)
        self._own: str | None = None
        if directory is None or len(os.path.join(directory, name)) > _LONGEST_PATH:
            directory = self._own = tempfile.mkdtemp(prefix="tritonllm-engine-", dir="/tmp")
        self.path = Path(directory, name)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: the socket can't be made.
        """
        self._server = await self.loop.create_unix_server(lambda: _Connection(self), str(self.path))
        self.path.chmod(0o600)

    def close(self) -> None:
        """Closes all connections and removes the socket."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        self.path.unlink(missing_ok=True)
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)

    def connected(self, owner: str) -> bool:
        """Whether this owner of leases has a connection."""
        return any(connection.owner == owner for connection in self.connections)


class _Connection(channel.Channel):
    """One pipeline process."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__(server.loop)
        self.owner = ""
        self._server = server
        self._requests: set[int] = set()

    def received(self, messages: list[channel.Message]) -> None:
        if not self.owner:
            kind, token, owner = messages.pop(0)
            if kind != channel.HELLO or not engine_token.admits(token):
                raise ValueError("the first message has no valid token")
            self.owner = owner
            self._server.connections.add(self)
        for kind, *rest in messages:
            if kind == channel.GENERATE:
                self._generate(*rest)
            elif kind == channel.ABORT:
                self._abort(*rest)
            elif kind == channel.RELEASE:
                (lease,) = rest
                self._server.on_release(lease, functools.partial(self._released, lease))

    def closed(self) -> None:
        self._server.connections.discard(self)
        for number in list(self._requests):
            self._abort(number)
        if self.owner:
            self._server.on_disconnect(self.owner)

    def _generate(
        self, number: int, text: str | None, messages: list[dict[str, str]] | None, given: dict[str, Any]
    ) -> None:
        self._requests.add(number)
        # Checked by the pipeline; only that is let in here.
        wanted = sampling.SamplingParameters.model_construct(**given)
        generation = backend.Generation(self._id(number), text, messages, wanted)
        self._server.engine.submit(
            generation, functools.partial(self._update, number), functools.partial(self._fail, number)
        )

    def _abort(self, number: int) -> None:
        if number in self._requests:
            self._requests.remove(number)
            self.discard(number)
            self._server.engine.abort(self._id(number))

    def _update(self, number: int, update: backend.Update) -> None:
        if update.finished:
            self._requests.discard(number)
        self.post_update(number, update)

    def _fail(self, number: int, error: errors.RequestError) -> None:
        self._requests.discard(number)
        self.post(channel.ERROR, number, str(error))

    def _released(self, lease: str) -> None:
        self.post(channel.RELEASED, lease)

    def _id(self, number: int) -> str:
        return f"{self.owner}-{number}"
