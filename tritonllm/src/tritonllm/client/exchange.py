"""One request and its responses, with one deadline for all of them; closing it cancels the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from tritonllm.client import answers, ask, errors


class Transport(Protocol):
    """A protocol to reach a server. Closing one of its generators cancels the request."""

    def responses(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request to a decoupled model."""
        ...

    def infer(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request to a batched model."""
        ...

    async def close(self) -> None:
        """Closes all connections."""
        ...


class Exchange:
    """A request that is sent when its first response is read.

    Args:
        send: sends the request and returns a transport's generator; called in the event loop.
        timeout: maximum time from the first `next` to the last response, in seconds.
    """

    def __init__(self, send: Callable[[], AsyncGenerator[answers.Outputs, None]], timeout: float) -> None:
        self._send = send
        self._responses: AsyncGenerator[answers.Outputs, None] | None = None
        self._timeout = timeout
        self._deadline: float | None = None
        self._begun = False
        self._closed = False
        self._scope: asyncio.Timeout | None = None
        # A generator cannot be closed while another task waits in it.
        self._lock = asyncio.Lock()

    async def next(self) -> answers.Outputs | None:
        """The next response; None after the last.

        Raises:
            TritonLLMError: a subclass of it; see `errors`.
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
                raise errors.Timeout(f"the answer was not complete within {self._timeout:g} s") from None
            except errors.ServerUnreachable as error:
                if self._begun:
                    raise errors.StreamBroken(
                        f"the connection broke before the answer was complete: {error}"
                    ) from None
                raise
            finally:
                self._scope = None
            self._begun = True
            return outputs

    async def close(self) -> None:
        """Cancels the request on the server, unless it has ended; `next` raises Cancelled in a task that waits there."""
        self._closed = True
        if self._scope is not None:
            self._scope.reschedule(0)
        async with self._lock:
            if self._responses is not None:
                await self._responses.aclose()


def _closed() -> errors.Cancelled:
    return errors.Cancelled("the client or the stream was closed")
