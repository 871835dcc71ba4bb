"""The pipeline's side of the private stream: submits requests to the engine, receives their updates.

A request is submitted to the engine that granted the current lease, and counts as a user of that lease until it has
ended. A lease is shared by the requests of about a second; under load its successor is opened before it expires, so
that no request waits for Triton. As each lease names the engine's socket, a reloaded engine is found by itself.

One event loop owns everything here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import Protocol

from tritonllm import errors
from tritonllm.ipc import channel, run_token
from tritonllm.runtime import backend, endpoint_adapters, requests

log = logging.getLogger(__name__)

LEASE_SECONDS = 1.0
"""How long requests join a lease: an engine that is to be unloaded learns so within this time."""
_RENEW_SECONDS = LEASE_SECONDS / 2
_CLOSE_SECONDS = 5.0
# How often the address of the engine is read: a restarted engine has another one.
_FOLLOW_SECONDS = 1.0


class Leases(Protocol):
    """What keeps the engine loaded while it is used; see `leases`."""

    async def open(self) -> tuple[str, str]:
        """Opens a lease.

        Returns:
            Its name, and the path of the socket of the engine that has granted it.

        Raises:
            RequestError: `unavailable`.
        """
        ...

    def finish(self, name: str) -> None:
        """Frees a lease whose end the engine has reported."""
        ...

    def abandon(self, name: str) -> None:
        """Gives up a lease whose engine is gone."""
        ...

    def close(self) -> None:
        """Ends its thread, if it has one."""
        ...


@dataclasses.dataclass(slots=True, eq=False)
class _Lease:
    name: str
    connection: _Connection
    opened: float
    users: int = 0
    retired: bool = False
    """No request joins it any more; it is released when the last one has left."""


class EngineClient:
    """The requests of one pipeline process to its engine.

    Args:
        loop: the event loop that owns it and calls back.
        granted: opens leases.
        on_update: called with a request's number and each of its updates.
        on_error: called with a request's number and why it failed; nothing follows.
        owner: identifies this process to the engine.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        granted: Leases,
        on_update: Callable[[int, backend.Update], None],
        on_error: Callable[[int, errors.RequestError], None],
        owner: str,
    ) -> None:
        self._loop = loop
        self._leases = granted
        self._on_update = on_update
        self._on_error = on_error
        self._owner = owner
        self._lease: _Lease | None = None
        self._open: dict[str, _Lease] = {}
        self._opening: asyncio.Task[None] | None = None
        self._waiting: dict[int, requests.Request] = {}
        self._submitted: dict[int, _Lease] = {}
        self._connections: dict[str, _Connection] = {}
        self._drained: asyncio.Future[None] | None = None
        self._adapters: endpoint_adapters.EndpointAdapters | None = None
        self._following: asyncio.Task[None] | None = None

    def follow(self, adapters: endpoint_adapters.EndpointAdapters, address: Callable[[], str | None]) -> None:
        """Tells the engine, and each one that replaces it, which adapters are wanted.

        Args:
            adapters: takes what the engine says.
            address: returns the path of the engine's socket, if it is known without a lease.
        """
        self._adapters = adapters
        self._following = self._loop.create_task(self._follow(address))

    def submit(self, number: int, request: requests.Request) -> None:
        """Sends a request to the engine.

        Args:
            number: identifies it in the callbacks.
            request: what to generate.
        """
        lease = self._lease
        age = self._loop.time() - lease.opened if lease else LEASE_SECONDS
        if age >= _RENEW_SECONDS and self._opening is None:
            self._opening = self._loop.create_task(self._open_lease())
        if lease and age < LEASE_SECONDS:
            self._send(number, request, lease)
        else:
            self._waiting[number] = request

    def abort(self, number: int) -> None:
        """Ends a request; nothing is called back for it any more. No effect if it has ended or is unknown."""
        self._waiting.pop(number, None)
        lease = self._leave(number)
        if lease is not None:
            lease.connection.post(channel.ABORT, number)

    def has(self, number: int) -> bool:
        """Whether a request is at the engine; not if it waits for a lease, or has ended."""
        return number in self._submitted

    async def close(self) -> None:
        """Releases the engine; call it when no request is left."""
        if self._following is not None:
            self._following.cancel()
        if self._opening is not None:
            await asyncio.wait([self._opening], timeout=_CLOSE_SECONDS)
        if self._lease is not None:
            self._retire(self._lease)
        if self._open:
            self._drained = self._loop.create_future()
            await asyncio.wait([self._drained], timeout=_CLOSE_SECONDS)
        for connection in list(self._connections.values()):
            connection.close()
        self._leases.close()

    async def _open_lease(self) -> None:
        try:
            name, path = await self._leases.open()
            try:
                connection = self._connections.get(path) or await self._connect(path)
            except OSError as error:
                self._leases.abandon(name)
                raise errors.RequestError(
                    "unavailable", "", f"the engine's socket can't be opened: {error}; try again later"
                ) from None
        except errors.RequestError as error:
            self._opening = None
            self._fail_waiting(error)
        except Exception as error:
            log.exception("the engine could not be leased")
            self._opening = None
            self._fail_waiting(errors.RequestError("internal", "", f"the pipeline failed: {error!r}"))
        else:
            self._opening = None
            self._adopt(_Lease(name, connection, self._loop.time()))

    async def _follow(self, address: Callable[[], str | None]) -> None:
        """Stays connected, so that an engine loads adapters before the first request."""
        while True:
            path = address()
            if path is not None and path not in self._connections:
                # What an engine that was killed has left.
                with contextlib.suppress(OSError):
                    await self._connect(path)
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def _connect(self, path: str) -> _Connection:
        connection = _Connection(self._loop, self, path)
        await self._loop.create_unix_connection(lambda: connection, path)
        if path in self._connections:
            # A lease has been opened meanwhile, and has connected.
            connection.close()
            return self._connections[path]
        connection.post(channel.HELLO, run_token.current(), self._owner)
        if self._adapters is not None:
            connection.post(channel.ADAPTERS, self._adapters.wanted)
        self._connections[path] = connection
        return connection

    def _adopt(self, lease: _Lease) -> None:
        former, self._lease = self._lease, lease
        self._open[lease.name] = lease
        if former is not None:
            self._retire(former)
        self._loop.call_later(LEASE_SECONDS, self._retire, lease)
        waiting, self._waiting = self._waiting, {}
        for number, request in waiting.items():
            self._send(number, request, lease)

    def _retire(self, lease: _Lease) -> None:
        if lease is self._lease:
            self._lease = None
        if not lease.retired:
            lease.retired = True
            self._release_unused(lease)

    def _release_unused(self, lease: _Lease) -> None:
        if lease.retired and not lease.users and lease.name in self._open:
            lease.connection.post(channel.RELEASE, lease.name)

    def _send(self, number: int, request: requests.Request, lease: _Lease) -> None:
        lease.users += 1
        self._submitted[number] = lease
        sampling = request.sampling.given()
        if request.wants("logprobs") or request.wants("cumulative_logprob"):
            sampling.setdefault("logprobs", 0)
        lease.connection.post(
            channel.GENERATE, number, request.text, request.messages, sampling, request.chat, request.adapter
        )

    def _leave(self, number: int) -> _Lease | None:
        lease = self._submitted.pop(number, None)
        if lease is not None:
            lease.users -= 1
            self._release_unused(lease)
        return lease

    def _fail_waiting(self, error: errors.RequestError) -> None:
        waiting, self._waiting = self._waiting, {}
        for number in waiting:
            self._on_error(number, error)

    def _close_lease(self, name: str, close: Callable[[str], None]) -> None:
        if self._open.pop(name, None) is not None:
            close(name)
        if self._drained is not None and not self._open and not self._drained.done():
            self._drained.set_result(None)

    # Called by the connection.

    def received(self, messages: list[channel.Message]) -> None:
        """Handles what the engine has sent."""
        for kind, subject, *rest in messages:
            if kind == channel.UPDATE:
                if subject in self._submitted:
                    update = backend.Update(*rest)
                    if update.finished:
                        self._leave(subject)
                    self._on_update(subject, update)
            elif kind == channel.ERROR:
                if self._leave(subject):
                    self._on_error(subject, errors.parse(rest[0]))
            elif kind == channel.ADAPTERS:
                if self._adapters is not None:
                    self._adapters.update(subject)
            elif kind == channel.RELEASED:
                self._close_lease(subject, self._leases.finish)

    def disconnected(self, connection: _Connection) -> None:
        """Fails the requests of an engine that is gone, at once."""
        if self._connections.get(connection.path) is connection:
            del self._connections[connection.path]
        if self._lease is not None and self._lease.connection is connection:
            self._lease = None
        for name, lease in list(self._open.items()):
            if lease.connection is connection:
                lease.retired = True
                self._close_lease(name, self._leases.abandon)
        lost = [number for number, lease in self._submitted.items() if lease.connection is connection]
        for number in lost:
            self._leave(number)
            self._on_error(
                number,
                errors.RequestError(
                    "engine_failure", "", "the engine has exited and is being restarted; try again later"
                ),
            )


class _Connection(channel.Channel):
    def __init__(self, loop: asyncio.AbstractEventLoop, client: EngineClient, path: str) -> None:
        super().__init__(loop)
        self.path = path
        self._client = client

    def received(self, messages: list[channel.Message]) -> None:
        self._client.received(messages)

    def closed(self) -> None:
        self._client.disconnected(self)
