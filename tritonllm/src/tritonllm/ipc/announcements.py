"""How a pipeline tells the gateways of its run that it listens, because it is loaded once they have found it.

Each gateway has a datagram socket in the directory of the run. A datagram says nothing but that there is something new: a
gateway then looks for it, and trusts what it finds as it always does.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

_SUFFIX = ".gateway"


class Announcements:
    """The socket of a gateway.

    Args:
        loop: the event loop that owns it.
        directory: of the run.
        heard: called when something is announced.

    Raises:
        OSError: the socket can't be made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path, heard: Callable[[], None]) -> None:
        self._loop = loop
        self._path = directory / f"{secrets.token_hex(8)}{_SUFFIX}"
        self._heard = heard
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._path))
        loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Hears no more, and removes the socket; a second time, nothing."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        self._socket.recv(1)
        self._heard()


def announce(directory: Path) -> None:
    """Tells all gateways of a run that something new listens.

    Args:
        directory: of the run.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for path in directory.glob(f"*{_SUFFIX}"):
            try:
                sender.sendto(b"1", str(path))
            except ConnectionRefusedError:
                # A gateway that was killed has left it.
                path.unlink(missing_ok=True)
            except (FileNotFoundError, BlockingIOError):
                # It has ended just now, or has not yet looked for what was announced before.
                pass
