"""The side of a private stream that listens: a Unix socket in a directory that only this user can enter."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonllm.ipc import channel, run_token

DIRECTORY = "TRITONLLM_RUN_DIRECTORY"
"""Names a private directory that outlives this process; without it a listener makes one of its own."""
SUFFIX = ".sock"
"""How the name of a socket ends."""
# unix(7): 108 bytes with the final zero.
_LONGEST_PATH = 107


class Listener:
    """Accepts connections of the processes of this run.

    Attributes:
        path: of the socket.
        loop: the event loop that owns it.
        connections: those that have introduced themselves.

    Args:
        loop: see above.
        name: what the socket's name begins with.
        accepted: makes the object that handles a connection.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, accepted: Callable[[Listener], Accepted]
    ) -> None:
        self.loop = loop
        self.connections: set[Accepted] = set()
        self._accepted = accepted
        # Random, so that a reloaded model listens beside the one it replaces.
        name = f"{name}-{secrets.token_hex(8)}{SUFFIX}"
        directory = os.environ.get(DIRECTORY)
        self._own: str | None = None
        if directory is None or len(os.path.join(directory, name)) > _LONGEST_PATH:
            directory = self._own = tempfile.mkdtemp(prefix="tritonllm-", dir="/tmp")
        self.path = Path(directory, name)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: the socket can't be made.
        """
        self._server = await self.loop.create_unix_server(lambda: self._accepted(self), str(self.path))
        self.path.chmod(0o600)

    def stop_listening(self) -> None:
        """Accepts no more connections; those that there are stay."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes all connections and removes the socket."""
        self.stop_listening()
        for connection in list(self.connections):
            connection.close()
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)

    def connected(self, owner: str) -> bool:
        """Whether this owner of leases has a connection."""
        return any(connection.owner == owner for connection in self.connections)


class Accepted(channel.Channel):
    """A connection at the side that listens; subclasses implement `opened`, `message` and `lost`.

    Attributes:
        owner: identifies the peer; empty until it has introduced itself.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.loop)
        self.owner = ""
        self._listener = listener

    def opened(self) -> None:
        """Handles the peer's introduction."""

    def message(self, kind: str, *rest: Any) -> None:
        """Handles a message."""
        raise NotImplementedError

    def lost(self) -> None:
        """Handles the end of the connection, unless the peer never introduced itself."""

    def received(self, messages: list[channel.Message]) -> None:
        """Called by the channel."""
        if not self.owner:
            kind, token, owner = messages.pop(0)
            if kind != channel.HELLO or not run_token.admits(token):
                raise ValueError("the first message has no valid token")
            self.owner = owner
            self._listener.connections.add(self)
            self.opened()
        for kind, *rest in messages:
            self.message(kind, *rest)

    def closed(self) -> None:
        """Called by the channel."""
        self._listener.connections.discard(self)
        if self.owner:
            self.lost()
