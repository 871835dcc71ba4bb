"""The pipeline's side of the private stream to the gateway: requests come in, responses go back.

They are the same requests and responses as through Triton, without the costs of its tensors. Triton knows nothing of
them; a pipeline that is to be unloaded completes them before `finalize` returns, and until then Triton says that it is
unloading. The event loop of the dispatcher owns everything here. A connection that is closed cancels the requests that
came over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from tritonllm import errors
from tritonllm.ipc import announcements, channel, listener, names
from tritonllm.runtime import dispatcher, judging, request_context, requests, screening, threads

log = logging.getLogger(__name__)

# Texts that wait for the rules, of all gateways; a gateway sends more only if it is flooded itself.
_MAX_CHECKS = 256

Parse = Callable[[dict[str, str | bool]], requests.Request]


class PipelineServer(listener.Listener):
    """Listens for gateways.

    Args:
        events: the event loop of the dispatcher.
        dispatching: answers the requests.
        parse: makes a request, within the endpoint's limits, of input tensors; raises RequestError.
        policy: its rules check texts.
        judge: asks the classifiers of its rules.
        description: of the endpoint, for gateways; see `gateway.upstream.Endpoint`.
    """

    def __init__(
        self,
        events: threads.EventLoop,
        dispatching: dispatcher.Dispatcher,
        parse: Parse,
        policy: screening.EndpointPolicy,
        judge: judging.Judging,
        description: dict[str, Any],
    ) -> None:
        super().__init__(events.loop, names.PIPELINE, lambda _: _Connection(self))
        self.dispatcher = dispatching
        self.parse = parse
        self.policy = policy
        self.judging = judge
        self.description = description
        self.checking = futures.ThreadPoolExecutor(1, thread_name_prefix="checks")
        self.checks = 0
        self.closing = False
        self._left: asyncio.Future[None] | None = None
        self._joined = asyncio.Event()

    async def start(self) -> None:
        """Begins to listen, and tells the gateways.

        Raises:
            OSError: the socket can't be made.
        """
        await super().start()
        announcements.announce(self.path.parent)

    async def wait_for_gateways(self, number: int, seconds: float) -> None:
        """Waits until the gateway's processes have connected, so that requests go to this version once it is loaded.

        Args:
            number: how many there are.
            seconds: maximum time to wait; they may be starting.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.connections) < number:
                    self._joined.clear()
                    await self._joined.wait()

    def describe(self, description: dict[str, Any]) -> None:
        """Tells all gateways how the endpoint is now."""
        self.description = description
        for connection in self.connections:
            connection.post(channel.WELCOME, description)

    def joined(self) -> None:
        """Takes note that a gateway has connected."""
        self._joined.set()

    async def drain(self, seconds: float) -> None:
        """Accepts no more connections, and waits until the gateways have received their last answers.

        Args:
            seconds: maximum time to wait.
        """
        self.stop_listening()
        self.closing = True
        for connection in self.connections:
            connection.post(channel.CLOSING)
        self.dispatcher.give_back()
        self._left = self.loop.create_future()
        self.left()
        await asyncio.wait([self._left], timeout=seconds)

    async def check(self, text: str, direction: str) -> screening.Checked:
        """Applies the rules of one direction to a text that needs no answer.

        Raises:
            RequestError: `invalid_argument`, `guardrail_failure`.
        """
        checked = await self.loop.run_in_executor(
            self.checking, screening.check, self.policy, text, direction
        )
        return await self.judging.check(self.policy, checked)

    def left(self) -> None:
        """Takes note that a gateway has closed its connection."""
        if self._left is not None and not self.connections and not self._left.done():
            self._left.set_result(None)

    def close(self) -> None:
        """Closes all connections and removes the socket."""
        super().close()
        self.checking.shutdown(cancel_futures=True)


class _Sender:
    """A request that came over a connection."""

    polled = False

    def __init__(self, connection: _Connection, number: int) -> None:
        self._connection = connection
        self._number = number

    @property
    def congested(self) -> bool:
        return self._connection.congested

    def send(self, response: request_context.Response) -> None:
        if response.error is not None:
            self.close(response.error)
            return
        if response.final:
            self._connection.requests.pop(self._number, None)
        self._connection.post(channel.RESPONSE, self._number, response.outputs, response.final)

    def close(self, error: errors.RequestError) -> None:
        self._connection.requests.pop(self._number, None)
        self._connection.post(channel.ERROR, self._number, str(error))

    def give_back(self) -> None:
        self._connection.requests.pop(self._number, None)
        self._connection.post(channel.RETURNED, self._number)

    def is_cancelled(self) -> bool:
        return False


class _Connection(listener.Accepted):
    """One gateway process."""

    def __init__(self, server: PipelineServer) -> None:
        super().__init__(server)
        self.requests: dict[int, request_context.RequestContext] = {}
        self._server = server

    def opened(self) -> None:
        self.post(channel.WELCOME, self._server.description)
        self._server.joined()

    def message(self, kind: str, *rest: Any) -> None:
        if kind == channel.GENERATE:
            self._generate(*rest)
        elif kind == channel.CHECK:
            self._check(*rest)
        elif kind == channel.ABORT:
            self._abort(*rest)

    def writable(self) -> None:
        for context in list(self.requests.values()):
            self._server.dispatcher.resume(context)

    def lost(self) -> None:
        for number in list(self.requests):
            self._abort(number)
        self._server.left()

    def _generate(self, number: int, inputs: dict[str, str | bool]) -> None:
        sender = _Sender(self, number)
        if self._server.closing:
            sender.give_back()
            return
        try:
            request = self._server.parse(inputs)
        except errors.RequestError as error:
            self._server.dispatcher.refuse(sender, error)
            return
        except Exception as error:
            log.exception("a request could not be read")
            problem = errors.RequestError("internal", "", f"the request could not be read: {error!r}")
            self._server.dispatcher.refuse(sender, problem)
            return
        context = self._server.dispatcher.accept(sender, request, time.monotonic())
        if context is not None:
            self.requests[number] = context

    def _abort(self, number: int) -> None:
        context = self.requests.pop(number, None)
        if context is not None:
            self._server.dispatcher.cancel(context)

    def _check(self, number: int, text: str, direction: str) -> None:
        server = self._server
        if server.checks >= _MAX_CHECKS:
            _Sender(self, number).close(
                errors.RequestError("queue_full", "", "too many texts wait to be checked; try again later")
            )
            return
        server.checks += 1
        job = server.loop.create_task(server.check(text, direction))
        job.add_done_callback(functools.partial(self._checked, number))

    def _checked(self, number: int, job: Any) -> None:
        self._server.checks -= 1
        if job.cancelled():
            return
        error = job.exception()
        if error is None:
            checked: screening.Checked = job.result()
            outputs = {
                "text_output": [checked.text],
                "blocked": [checked.blocked],
                "guardrail": [checked.guardrail],
            }
            self.post(channel.RESPONSE, number, outputs, True)
        elif isinstance(error, errors.RequestError):
            _Sender(self, number).close(error)
        else:
            log.error("a text could not be checked", exc_info=error)
            _Sender(self, number).close(
                errors.RequestError("guardrail_failure", "", f"the guardrail failed: {error!r}")
            )
