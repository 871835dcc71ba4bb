"""The pipeline's side of the private stream to its engine: submits requests, receives their updates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tritonllm import errors
from tritonllm.ipc import channel, leased
from tritonllm.runtime import backend, requests


class EngineClient:
    """The requests of one pipeline process to its engine. One event loop owns it.

    Args:
        loop: the event loop that owns it and calls back.
        leases: opens leases of the engine.
        on_update: called with a request's number and each of its updates.
        on_error: called with a request's number and why it failed; nothing follows.
        owner: identifies this process to the engine.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        leases: leased.Leases,
        on_update: Callable[[int, backend.Update], None],
        on_error: Callable[[int, errors.RequestError], None],
        owner: str,
    ) -> None:
        self._loop = loop
        self._on_update = on_update
        self._on_error = on_error
        self._owner = owner
        self._requests = leased.Requests(loop, leases, self._connect, on_error, "the engine")
        self._connections: dict[str, leased.Connection] = {}

    def submit(self, number: int, request: requests.Request) -> None:
        """Sends a request to the engine.

        Args:
            number: identifies it in the callbacks.
            request: what to generate.
        """
        sampling = request.sampling.given()
        if request.wants("logprobs") or request.wants("cumulative_logprob"):
            sampling.setdefault("logprobs", 0)
        self._requests.submit(number, channel.GENERATE, request.text, request.messages, sampling)

    def abort(self, number: int) -> None:
        """Ends a request; nothing is called back for it any more. No effect if it has ended or is unknown."""
        self._requests.abort(number)

    async def close(self) -> None:
        """Releases the engine; call it when no request is left."""
        await self._requests.close()
        for connection in list(self._connections.values()):
            connection.close()

    async def _connect(self, path: str) -> list[leased.Connection]:
        connection = self._connections.get(path)
        if connection is None:
            connection = leased.Connection(self._loop, path, self._owner, self._received, self._disconnected)
            await connection.open()
            self._connections[path] = connection
        return [connection]

    def _received(self, _: leased.Connection, messages: list[channel.Message]) -> None:
        for kind, subject, *rest in messages:
            if kind == channel.UPDATE:
                if self._requests.pending(subject):
                    update = backend.Update(*rest)
                    if update.finished:
                        self._requests.finish(subject)
                    self._on_update(subject, update)
            elif kind == channel.ERROR:
                if self._requests.finish(subject):
                    self._on_error(subject, errors.parse(rest[0]))
            elif kind == channel.RELEASED:
                self._requests.released(subject)

    def _disconnected(self, connection: leased.Connection) -> None:
        self._connections.pop(connection.path, None)
        self._requests.disconnected(connection)
