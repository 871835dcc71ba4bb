"""The client for asyncio, on which the synchronous client is built."""

from __future__ import annotations

import collections
import os
import weakref
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tritonllm import sampling as sampling_module
from tritonllm.client import answers, ask, errors, exchange

# More than an endpoint's default request timeout of 300 s, after which it sends the text so far.
DEFAULT_TIMEOUT = 600.0


class AsyncClient:
    """A client of one server, for any number of concurrent tasks of one event loop.

    Args:
        url: `host:port` or `grpc://host:port` for gRPC (Triton's port 8001), `http://host:port` for HTTP (8000),
            `http://host:port/v1` for OpenAI's API (the gateway's port 8080); `grpcs` and `https` for TLS.
        timeout: default timeout of a whole request, in seconds.
        api_key: for OpenAI's API; None for the environment variable `OPENAI_API_KEY`.

    Raises:
        InvalidRequest: the URL is invalid.
    """

    def __init__(
        self, url: str = "localhost:8001", *, timeout: float = DEFAULT_TIMEOUT, api_key: str | None = None
    ) -> None:
        self._scheme, self._address = parse_url(url)
        self._api_key = os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key
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
        timeout: float | None = None,  # noqa: ASYNC109  # as in `stream`, which a timeout of the caller's could not cover
        **parameters: Any,
    ) -> answers.Answer:
        """Generates a whole answer.

        Args:
            model: name of the endpoint.
            prompt: the prompt; exclusive with `messages`.
            messages: a conversation of `{"role", "content"}` messages.
            sampling: the sampling parameters.
            timeout: timeout of the whole request, in seconds; None for the client's.
            **parameters: sampling parameters as keywords, such as `max_tokens=64`; exclusive with `sampling`.

        Returns:
            The answer. If a guardrail blocked it, its finish reason is `content_filter`; no exception is raised.

        Raises:
            TritonLLMError: a subclass of it; see `tritonllm.client.errors`.
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
        """Streams an answer; the request is sent when the first chunk is read.

        Closing the stream, leaving its `async with` block, or cancelling the task cancels the request on the server.
        Arguments and exceptions are those of `generate`.
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
        """Checks a text against an endpoint's guardrails, without generating anything.

        Args:
            model: name of the endpoint.
            text: the whole text to check.
            direction: `input` for the rules for prompts, `output` for the rules for answers.
            timeout: timeout in seconds; None for the client's.

        Raises:
            TritonLLMError: a subclass of it; see `tritonllm.client.errors`.
        """
        inputs = ask.check(text, direction)
        asked = self._exchange(lambda: self._connect().infer(f"{model}-guardrail", inputs), timeout)
        try:
            return answers.moderation(await asked.next() or {})
        finally:
            await asked.close()

    async def aclose(self) -> None:
        """Closes the connection and cancels every request on it."""
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
        if self._transport is None:
            self._transport = transport(self._scheme, self._address, self._api_key)
        return self._transport


class AsyncStream:
    """A streamed answer: an asynchronous iterator of chunks, and a context manager that closes it."""

    def __init__(self, asked: exchange.Exchange) -> None:
        self._asked = asked
        self._builder = answers.AnswerBuilder()
        self._ready: collections.deque[answers.Chunk] = collections.deque()

    @property
    def answer(self) -> answers.Answer:
        """The whole answer, after the last chunk.

        Raises:
            RuntimeError: the stream has not been read to its end.
        """
        if self._builder.answer is None or self._ready:
            raise RuntimeError("the answer is available after the stream has been read to its end")
        return self._builder.answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> answers.Chunk:
        while not self._ready:
            outputs = await self._asked.next()
            if outputs is None:
                if self._builder.answer is None:
                    raise errors.StreamBroken("the server closed the stream before the answer was complete")
                raise StopAsyncIteration
            self._ready.extend(self._builder.add(outputs))
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Cancels the request on the server, unless it has ended."""
        await self._asked.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def transport(scheme: str, address: str, api_key: str = "") -> exchange.Transport:
    """Connects to a server; call it inside the event loop that the connection is to belong to."""
    # Each takes half a second to import.
    if scheme.startswith("grpc"):
        from tritonllm.client import grpc_transport

        return grpc_transport.Transport(address, secure=scheme == "grpcs")
    if "/" in address:
        from tritonllm.client import openai_transport

        return openai_transport.Transport(f"{scheme}://{address}", api_key)
    from tritonllm.client import http_transport

    return http_transport.Transport(f"{scheme}://{address}")


def parse_url(url: str) -> tuple[str, str]:
    """Splits a URL into scheme and address, which ends in `/v1` for OpenAI's API; the default scheme is grpc."""
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    path = parts.path.rstrip("/")
    openai = parts.scheme.startswith("http") and path.endswith("/v1")
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.netloc or (path and not openai):
        raise errors.InvalidRequest(
            "must be like localhost:8001, http://localhost:8000, or http://localhost:8080/v1 for OpenAI's API,"
            f" got {url!r}",
            field="url",
        )
    return parts.scheme, parts.netloc + path
