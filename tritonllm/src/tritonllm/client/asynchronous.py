"""The client for asyncio. The synchronous one runs on top of it."""

from __future__ import annotations

import collections
import weakref
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tritonllm import sampling as sampling_module
from tritonllm.client import answers, ask, errors, exchange

# More than the 300 s after which an endpoint ends a request itself, by default, and sends what it has.
DEFAULT_TIMEOUT = 600.0


class AsyncClient:
    """Asks the endpoints of one server; for use in one event loop, by any number of tasks at once.

    Args:
        url: `host:port` or `grpc://host:port` for gRPC (Triton's port 8001), `http://host:port` for HTTP (8000);
            `grpcs` and `https` with TLS.
        timeout: seconds that a request may take as a whole, where a call does not say.

    Raises:
        InvalidRequest: the URL is none.
    """

    def __init__(self, url: str = "localhost:8001", *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._scheme, self._address = parse_url(url)
        self._timeout = timeout
        self._transport: exchange.Transport | None = None
        self._under_way: weakref.WeakSet[exchange.Exchange] = weakref.WeakSet()
        self._closed = False

    async def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: ask.Messages | None = None,
        sampling: sampling_module.SamplingParameters | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as in `stream`, where no block of the caller's could be it
        **parameters: Any,
    ) -> answers.Answer:
        """Asks for a whole answer.

        Args:
            model: name of the endpoint.
            prompt: a text; or
            messages: a conversation of `{"role", "content"}` turns.
            sampling: the sampling parameters; or
            **parameters: the same as keywords, such as `max_tokens=64, temperature=0`.
            timeout: seconds for the whole request; None for the client's.

        Returns:
            The answer. One that a guardrail cut has the finish reason `content_filter`; it is no exception.

        Raises:
            TritonLLMError: as the tree in `tritonllm.client.errors`.
        """
        inputs = ask.generate(prompt, messages, sampling, parameters, stream=False)
        async with AsyncStream(self._ask(model, inputs, timeout)) as stream:
            async for _ in stream:
                pass
        return stream.answer

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: ask.Messages | None = None,
        sampling: sampling_module.SamplingParameters | None = None,
        timeout: float | None = None,
        **parameters: Any,
    ) -> AsyncStream:
        """Asks for an answer in pieces; the request is sent when the first is read.

        Leaving the loop early, closing the stream or cancelling the task ends the request at the server.
        Arguments and errors are those of `generate`.
        """
        inputs = ask.generate(prompt, messages, sampling, parameters, stream=True)
        return AsyncStream(self._ask(model, inputs, timeout))

    async def check(
        self,
        model: str,
        text: str,
        *,
        direction: Literal["input", "output"] = "input",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> answers.Moderation:
        """Asks what an endpoint's guardrails make of a text; no text is generated.

        Args:
            model: name of the endpoint.
            text: what to look at, whole.
            direction: the rules for what users send, or for what the model answers.
            timeout: seconds; None for the client's.

        Raises:
            TritonLLMError: as the tree in `tritonllm.client.errors`.
        """
        inputs = ask.check(text, direction)
        asked = self._exchange(lambda: self._connect().infer(f"{model}-guardrail", inputs), timeout)
        try:
            return answers.moderation(await asked.next() or {})
        finally:
            await asked.close()

    async def aclose(self) -> None:
        """Ends the connection and every request that is under way."""
        self._closed = True
        for asked in list(self._under_way):
            await asked.close()
        if self._transport is not None:
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _ask(self, model: str, inputs: ask.Inputs, timeout: float | None) -> exchange.Exchange:
        return self._exchange(lambda: self._connect().responses(model, inputs), timeout)

    def _exchange(
        self, send: Callable[[], AsyncGenerator[answers.Outputs, None]], timeout: float | None
    ) -> exchange.Exchange:
        asked = exchange.Exchange(send, self._timeout if timeout is None else timeout)
        self._under_way.add(asked)
        return asked

    def _connect(self) -> exchange.Transport:
        if self._closed:
            raise RuntimeError("the client is closed")
        # Inside the event loop that the connection belongs to; and each of the two takes half a second to import.
        if self._transport is None:
            if self._scheme.startswith("grpc"):
                from tritonllm.client import grpc_transport

                self._transport = grpc_transport.Transport(self._address, secure=self._scheme == "grpcs")
            else:
                from tritonllm.client import http_transport

                self._transport = http_transport.Transport(f"{self._scheme}://{self._address}")
        return self._transport


class AsyncStream:
    """The pieces of an answer, then the answer: an asynchronous iterator, and a context manager that closes it."""

    def __init__(self, asked: exchange.Exchange) -> None:
        self._asked = asked
        self._growing = answers.Growing()
        self._ready: collections.deque[answers.Chunk] = collections.deque()

    @property
    def answer(self) -> answers.Answer:
        """The whole answer, once the last piece was read.

        Raises:
            RuntimeError: the stream is not at its end yet.
        """
        if self._growing.answer is None or self._ready:
            raise RuntimeError("the answer is there when the stream has been read to its end")
        return self._growing.answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> answers.Chunk:
        while not self._ready:
            outputs = await self._asked.next()
            if outputs is None:
                if self._growing.answer is None:
                    raise errors.StreamBroken("the server ended the stream before the answer was whole")
                raise StopAsyncIteration
            self._ready.extend(self._growing.add(outputs))
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Ends the request at the server if it is not over."""
        await self._asked.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def parse_url(url: str) -> tuple[str, str]:
    """Scheme and address of a URL; without a scheme it is gRPC."""
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.netloc or parts.path.strip("/"):
        raise errors.InvalidRequest(
            f"must be like localhost:8001 or http://localhost:8000, not {url!r}", field="url"
        )
    return parts.scheme, parts.netloc
