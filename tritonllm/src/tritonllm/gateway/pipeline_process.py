"""A pipeline process as the gateway sees it: one connection, and the requests in progress on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tritonllm import errors
from tritonllm.gateway import calls, upstream
from tritonllm.ipc import channel, run_token

_WELCOME_SECONDS = 10.0


class PipelineProcess(channel.Channel):
    """A connection to a pipeline process.

    Attributes:
        path: of its socket.
        endpoint: what it serves; None until it has said so.
        spec_hash: that of its model; processes of an endpoint with the same one serve the same.
        accepting: whether it takes requests.
        gone: whether the connection is closed.

    Args:
        loop: the event loop that owns it.
        path: see above.
        on_change: called when one of the attributes has changed.
        on_return: called with itself and a request that has to be sent to another process.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        on_change: Callable[[PipelineProcess], None],
        on_return: Callable[[PipelineProcess, calls.Call], None],
    ) -> None:
        super().__init__(loop)
        self.path = path
        self.endpoint: upstream.Endpoint | None = None
        self.spec_hash = ""
        self.accepting = False
        self.gone = False
        self._on_change = on_change
        self._on_return = on_return
        self._calls: dict[int, calls.Call] = {}
        self._welcomed: asyncio.Future[None] = loop.create_future()

    @property
    def load(self) -> int:
        """Number of its requests in progress."""
        return len(self._calls)

    async def open(self, owner: str) -> None:
        """Connects, and waits until it has said what it serves.

        Args:
            owner: identifies this process to it.

        Raises:
            OSError: it does not listen, or closes the connection.
            TimeoutError: it does not answer.
        """
        await self._loop.create_unix_connection(lambda: self, self.path)
        self.post(channel.HELLO, run_token.current(), owner)
        async with asyncio.timeout(_WELCOME_SECONDS):
            await self._welcomed

    def submit(self, call: calls.Call) -> None:
        """Sends a request."""
        self._calls[call.number] = call
        call.on_close = self._abort
        kind, *rest = call.message
        self.post(kind, call.number, *rest)

    def received(self, messages: list[channel.Message]) -> None:
        """Called by the channel."""
        for kind, *rest in messages:
            if kind == channel.RESPONSE:
                self._respond(*rest)
            elif kind == channel.ERROR:
                number, text = rest
                self._fail(number, errors.parse(text))
            elif kind == channel.WELCOME:
                (description,) = rest
                self.spec_hash = description.pop("spec_hash")
                self.endpoint = upstream.Endpoint(**description)
                self.accepting = True
                self._on_change(self)
                if not self._welcomed.done():
                    self._welcomed.set_result(None)
            elif kind == channel.RETURNED:
                (number,) = rest
                if (call := self._calls.pop(number, None)) is not None:
                    call.on_close = None
                    self._on_return(self, call)
            elif kind == channel.CLOSING:
                self.accepting = False
                self._on_change(self)
        self._leave_if_done()

    def closed(self) -> None:
        """Called by the channel."""
        self.gone, self.accepting = True, False
        if not self._welcomed.done():
            self._welcomed.set_exception(ConnectionResetError("the pipeline has closed the connection"))
            # So that it does not count as unhandled if no task waits for it.
            self._welcomed.exception()
        self._on_change(self)
        for number in list(self._calls):
            self._fail(
                number,
                errors.RequestError(
                    "engine_failure",
                    "",
                    "the endpoint's pipeline has exited and is being restarted; try again later",
                ),
            )

    def _respond(self, number: int, outputs: upstream.Outputs, final: bool) -> None:
        call = self._calls.pop(number, None) if final else self._calls.get(number)
        if call is not None:
            call.arrived(outputs, final=final)

    def _fail(self, number: int, error: errors.RequestError) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            call.failed(error)

    def _abort(self, number: int) -> None:
        if self._calls.pop(number, None) is not None:
            self.post(channel.ABORT, number)
            self._leave_if_done()

    def _leave_if_done(self) -> None:
        if not self.accepting and not self._calls and self.endpoint is not None and not self.gone:
            self.close()
