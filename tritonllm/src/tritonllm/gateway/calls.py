"""A request in progress: what has arrived for it waits here until its handler takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tritonllm import errors
from tritonllm.gateway import upstream


class Call:
    """See `upstream.Call`. What arrives while the handler is busy is taken together.

    Args:
        abort: called once if the call is closed before it has ended.
    """

    def __init__(self, abort: Callable[[], object]) -> None:
        self._abort = abort
        self._outputs: list[upstream.Outputs] = []
        self._error: errors.RequestError | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def arrived(self, outputs: upstream.Outputs, *, final: bool) -> None:
        """Takes a response."""
        self._outputs.append(outputs)
        self._ended = self._ended or final
        self._wake()

    def failed(self, error: errors.RequestError) -> None:
        """Takes the error that ends the request."""
        self._error = error
        self._ended = True
        self._wake()

    async def receive(self) -> tuple[list[upstream.Outputs], bool]:
        """See `upstream.Call`."""
        while not self._outputs and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        outputs, self._outputs = self._outputs, []
        if self._error is not None and not outputs:
            raise self._error
        return outputs, self._ended and self._error is None

    def close(self) -> None:
        """See `upstream.Call`."""
        if not self._ended:
            self._ended = True
            self._abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
