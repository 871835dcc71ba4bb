"""Requests under leases: the side of a private stream that asks.

A request is sent to a process of the model that granted the current lease, and counts as a user of that lease until it
has ended. A lease is shared by the requests of about a second; under load its successor is opened before it expires, so
that no request waits for Triton. As each lease names a socket of the model that Triton has loaded now, a reloaded model
is found by itself.

One event loop owns everything here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tritonllm import errors
from tritonllm.ipc import channel, run_token

log = logging.getLogger(__name__)

LEASE_SECONDS = 1.0
"""How long requests join a lease: a model that is to be unloaded learns so within this time."""
_RENEW_SECONDS = LEASE_SECONDS / 2
_CLOSE_SECONDS = 5.0


class Leases(Protocol):
    """What keeps a model loaded while it is used."""

    async def open(self) -> tuple[str, str]:
        """Opens a lease.

        Returns:
            Its name, and the path of the socket of the process that has granted it.

        Raises:
            RequestError: `unavailable`.
        """
        ...

    def finish(self, name: str) -> None:
        """Frees a lease whose end its model has reported."""
        ...

    def abandon(self, name: str) -> None:
        """Gives up a lease whose model is gone."""
        ...

    def close(self) -> None:
        """Ends its thread, if it has one."""
        ...


class Connection(channel.Channel):
    """A connection to a process that answers.

    Attributes:
        path: of its socket.
        users: requests in progress there.

    Args:
        loop: the event loop that owns it.
        path: see above.
        owner: identifies this process to the peer.
        on_messages: called with the connection and what it has received.
        on_close: called with the connection when it is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        owner: str,
        on_messages: Callable[[Connection, list[channel.Message]], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        super().__init__(loop)
        self.path = path
        self.users = 0
        self._owner = owner
        self._on_messages = on_messages
        self._on_close = on_close

    async def open(self) -> None:
        """Connects.

        Raises:
            OSError: no process listens there.
        """
        await self._loop.create_unix_connection(lambda: self, self.path)
        self.post(channel.HELLO, run_token.current(), self._owner)

    def received(self, messages: list[channel.Message]) -> None:
        """Called by the channel."""
        self._on_messages(self, messages)

    def closed(self) -> None:
        """Called by the channel."""
        self._on_close(self)


@dataclasses.dataclass(slots=True, eq=False)
class _Lease:
    name: str
    connections: list[Connection]
    """To the process that has granted it, then to its siblings, which the lease keeps as well."""
    opened: float
    users: int = 0
    retired: bool = False
    """No request joins it any more; it is released when the last one has left."""


class Requests:
    """The requests of this process to one model.

    Args:
        loop: the event loop that owns it and calls back.
        leases: opens leases.
        connect: finds the processes that a lease allows to ask, by the path in the lease. The first is the one that
            has granted it. Raises OSError if it can't be reached.
        on_error: called with a request's number and why it failed; nothing follows.
        peer: what the model is to people, such as `the engine`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        leases: Leases,
        connect: Callable[[str], Awaitable[list[Connection]]],
        on_error: Callable[[int, errors.RequestError], None],
        peer: str,
    ) -> None:
        self._loop = loop
        self._leases = leases
        self._connect = connect
        self._on_error = on_error
        self._peer = peer
        self._lease: _Lease | None = None
        self._open: dict[str, _Lease] = {}
        self._opening: asyncio.Task[None] | None = None
        self._waiting: dict[int, tuple[Any, ...]] = {}
        self._submitted: dict[int, tuple[_Lease, Connection]] = {}
        self._drained: asyncio.Future[None] | None = None

    def submit(self, number: int, *message: Any) -> None:
        """Sends a request.

        Args:
            number: identifies it.
            message: its kind, and what follows its number.
        """
        lease = self._lease
        age = self._loop.time() - lease.opened if lease else LEASE_SECONDS
        if age >= _RENEW_SECONDS and self._opening is None:
            self._opening = self._loop.create_task(self._open_lease())
        if lease and age < LEASE_SECONDS:
            self._send(number, message, lease)
        else:
            self._waiting[number] = message

    def abort(self, number: int) -> None:
        """Ends a request; nothing is called back for it any more. No effect if it has ended or is unknown."""
        self._waiting.pop(number, None)
        connection = self.finish(number)
        if connection is not None:
            connection.post(channel.ABORT, number)

    def finish(self, number: int) -> Connection | None:
        """Takes note that a request has ended.

        Returns:
            The connection that it was sent over; None if it is unknown.
        """
        lease, connection = self._submitted.pop(number, (None, None))
        if lease is not None and connection is not None:
            connection.users -= 1
            lease.users -= 1
            self._release_unused(lease)
        return connection

    def pending(self, number: int) -> bool:
        """Whether a request has been sent and has not ended."""
        return number in self._submitted

    def released(self, name: str) -> None:
        """Takes note that a model has ended a lease."""
        self._close_lease(name, self._leases.finish)

    def disconnected(self, connection: Connection) -> None:
        """Fails the requests of a process that is gone, at once."""
        if self._lease is not None and connection in self._lease.connections:
            self._retire(self._lease)
        for name, lease in list(self._open.items()):
            if lease.connections[0] is connection:
                lease.retired = True
                self._close_lease(name, self._leases.abandon)
        lost = [number for number, (_, used) in self._submitted.items() if used is connection]
        for number in lost:
            self.finish(number)
            self._on_error(
                number,
                errors.RequestError(
                    "engine_failure", "", f"{self._peer} has exited and is being restarted; try again later"
                ),
            )

    async def close(self) -> None:
        """Releases the model; call it when no request is left."""
        if self._opening is not None:
            await asyncio.wait([self._opening], timeout=_CLOSE_SECONDS)
        if self._lease is not None:
            self._retire(self._lease)
        if self._open:
            self._drained = self._loop.create_future()
            await asyncio.wait([self._drained], timeout=_CLOSE_SECONDS)
        self._leases.close()

    async def _open_lease(self) -> None:
        try:
            name, path = await self._leases.open()
            try:
                connections = await self._connect(path)
            except OSError as error:
                self._leases.abandon(name)
                raise errors.RequestError(
                    "unavailable", "", f"the socket of {self._peer} can't be opened: {error}; try again later"
                ) from None
        except errors.RequestError as error:
            self._opening = None
            self._fail_waiting(error)
        except Exception as error:
            log.exception("%s could not be leased", self._peer)
            self._opening = None
            self._fail_waiting(
                errors.RequestError("internal", "", f"{self._peer} can't be called: {error!r}")
            )
        else:
            self._opening = None
            self._adopt(_Lease(name, connections, self._loop.time()))

    def _adopt(self, lease: _Lease) -> None:
        former, self._lease = self._lease, lease
        self._open[lease.name] = lease
        if former is not None:
            self._retire(former)
        self._loop.call_later(LEASE_SECONDS, self._retire, lease)
        waiting, self._waiting = self._waiting, {}
        for number, message in waiting.items():
            self._send(number, message, lease)

    def _retire(self, lease: _Lease) -> None:
        if lease is self._lease:
            self._lease = None
        if not lease.retired:
            lease.retired = True
            self._release_unused(lease)

    def _release_unused(self, lease: _Lease) -> None:
        if lease.retired and not lease.users and lease.name in self._open:
            lease.connections[0].post(channel.RELEASE, lease.name)

    def _send(self, number: int, message: tuple[Any, ...], lease: _Lease) -> None:
        connection = min(lease.connections, key=_users)
        connection.users += 1
        lease.users += 1
        self._submitted[number] = lease, connection
        kind, *rest = message
        connection.post(kind, number, *rest)

    def _fail_waiting(self, error: errors.RequestError) -> None:
        waiting, self._waiting = self._waiting, {}
        for number in waiting:
            self._on_error(number, error)

    def _close_lease(self, name: str, close: Callable[[str], None]) -> None:
        if self._open.pop(name, None) is not None:
            close(name)
        if self._drained is not None and not self._open and not self._drained.done():
            self._drained.set_result(None)


def _users(connection: Connection) -> int:
    return connection.users
