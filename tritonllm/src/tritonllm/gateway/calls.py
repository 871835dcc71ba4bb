"""A request in progress: what has arrived for it waits here until its handler takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tritonllm import errors
from tritonllm.gateway import upstream


class Call:
    """See `upstream.Call`. What arrives while the handler is busy is taken together.

    Attributes:
        number: identifies it to the process that answers it.
        closed: whether its handler has given it up.
        on_close: called with the number then, unless the request has ended.
        message: what was sent for it.

    Args:
        number: see above.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.closed = False
        self.on_close: Callable[[int], object] | None = None
        self.message: tuple[Any, ...] = ()
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
        self.closed = True
        if not self._ended:
            self._ended = True
            if self.on_close is not None:
                self.on_close(self.number)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
