"""The engine's side of the private stream: runs the requests of its pipelines, sends their updates.

One event loop, the backend's, owns everything here. A connection that is closed aborts the requests that came over it,
so a pipeline that is gone never occupies the engine.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from tritonllm import errors, sampling
from tritonllm.ipc import channel, listener, names
from tritonllm.runtime import backend


class EngineServer(listener.Listener):
    """Listens for pipelines.

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
        super().__init__(loop, names.ENGINE, lambda _: _Connection(self))
        self.engine = engine
        self.on_release = on_release
        self.on_disconnect = on_disconnect


class _Connection(listener.Accepted):
    """One pipeline process."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__(server)
        self._server = server
        self._requests: set[int] = set()

    def message(self, kind: str, *rest: Any) -> None:
        if kind == channel.GENERATE:
            self._generate(*rest)
        elif kind == channel.ABORT:
            self._abort(*rest)
        elif kind == channel.RELEASE:
            (lease,) = rest
            self._server.on_release(lease, functools.partial(self.post, channel.RELEASED, lease))

    def lost(self) -> None:
        for number in list(self._requests):
            self._abort(number)
        self._server.on_disconnect(self.owner)

    def _generate(
        self,
        number: int,
        text: str | None,
        messages: list[dict[str, Any]] | None,
        given: dict[str, Any],
        chat: dict[str, Any],
    ) -> None:
        self._requests.add(number)
        # Checked by the pipeline; only that is let in here.
        wanted = sampling.SamplingParameters.model_construct(**given)
        generation = backend.Generation(self._id(number), text, messages, wanted, chat)
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

    def _id(self, number: int) -> str:
        return f"{self.owner}-{number}"
