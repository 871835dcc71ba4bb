"""One request and its responses: a deadline over all of them, and an end on every way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from tritonllm.client import answers, ask, errors


class Transport(Protocol):
    """A way to reach a server. Leaving one of its generators cancels the request."""

    def responses(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Asks a streaming model."""
        ...

    def infer(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Asks a batching model."""
        ...

    async def close(self) -> None:
        """Ends everything."""
        ...


class Exchange:
    """A request that is sent when its first response is asked for.

    Args:
        send: sends the request; called inside the event loop. Gives a transport's generator.
        timeout: seconds from the first `next` to the last response.
    """

    def __init__(self, send: Callable[[], AsyncGenerator[answers.Outputs, None]], timeout: float) -> None:
        self._send = send
        self._responses: AsyncGenerator[answers.Outputs, None] | None = None
        self._timeout = timeout
        self._deadline: float | None = None
        self._begun = False
        self._closed = False
        self._scope: asyncio.Timeout | None = None
        # A generator can't be closed while another task waits in it.
        self._lock = asyncio.Lock()

    async def next(self) -> answers.Outputs | None:
        """The next response; None after the last.

        Raises:
            TritonLLMError: as the tree in `errors`.
        """
        async with self._lock:
            if self._closed:
                raise _closed()
            if self._responses is None:
                self._responses = self._send()
                self._deadline = asyncio.get_running_loop().time() + self._timeout
            try:
                async with asyncio.timeout_at(self._deadline) as self._scope:
                    outputs = await anext(self._responses, None)
            except TimeoutError:
                if self._closed:
                    raise _closed() from None
                raise errors.Timeout(f"no whole answer within {self._timeout:g} s") from None
            except errors.ServerUnreachable as error:
                if self._begun:
                    raise errors.StreamBroken(
                        f"the connection broke in the middle of an answer: {error}"
                    ) from None
                raise
            finally:
                self._scope = None
            self._begun = True
            return outputs

    async def close(self) -> None:
        """Ends the request at the server if it is not over; a task that waits in `next` gets Cancelled."""
        self._closed = True
        if self._scope is not None:
            self._scope.reschedule(0)
        async with self._lock:
            if self._responses is not None:
                await self._responses.aclose()


def _closed() -> errors.Cancelled:
    return errors.Cancelled("the client or its stream was closed")
