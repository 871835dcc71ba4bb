"""The synchronous client: the asynchronous one, run in a background thread.

Timeouts, exceptions and cancellation are those of the asynchronous client. One thread with one event loop serves all
clients of the process, in whatever threads they are used.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from tritonllm import sampling as sampling_module
from tritonllm.client import answers, ask, asynchronous

T = TypeVar("T")


_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _started()


@functools.cache
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tritonllm-client", daemon=True).start()
    return loop


# After a fork the child has no other threads.
os.register_at_fork(after_in_child=_started.cache_clear)


def _run(work: Coroutine[Any, Any, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    finally:
        # On Ctrl-C while waiting, the request must not continue.
        future.cancel()


class Client:
    """A client of one server, which any number of threads can share.

    Args:
        url: `host:port` or `grpc://host:port` for gRPC (Triton's port 8001), `http://host:port` for HTTP (8000),
            `http://host:port/v1` for OpenAI's API (the gateway's port 8080); `grpcs` and `https` for TLS.
        timeout: default timeout of a whole request, in seconds.
        api_key: for OpenAI's API; None for the environment variable `OPENAI_API_KEY`.

    Raises:
        InvalidRequest: the URL is invalid.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float = asynchronous.DEFAULT_TIMEOUT,
        api_key: str | None = None,
    ) -> None:
        self._client = asynchronous.AsyncClient(url, timeout=timeout, api_key=api_key)

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: ask.Messages | None = None,
        sampling: sampling_module.SamplingParameters | None = None,
        timeout: float | None = None,
        **parameters: Any,
    ) -> answers.Answer:
        """Generates a whole answer; see `AsyncClient.generate`."""
        return _run(
            self._client.generate(
                model, prompt, messages=messages, sampling=sampling, timeout=timeout, **parameters
            )
        )

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: ask.Messages | None = None,
        sampling: sampling_module.SamplingParameters | None = None,
        timeout: float | None = None,
        **parameters: Any,
    ) -> Stream:
        """Streams an answer; see `AsyncClient.stream`."""
        return Stream(
            self._client.stream(
                model, prompt, messages=messages, sampling=sampling, timeout=timeout, **parameters
            )
        )

    def check(
        self,
        model: str,
        text: str,
        *,
        direction: Literal["input", "output"] = "input",
        timeout: float | None = None,
    ) -> answers.Moderation:
        """Checks a text against an endpoint's guardrails; see `AsyncClient.check`."""
        return _run(self._client.check(model, text, direction=direction, timeout=timeout))

    def close(self) -> None:
        """Closes the connection and cancels every request on it, in any thread."""
        _run(self._client.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream:
    """A streamed answer: an iterator of chunks. Any thread can close it."""

    def __init__(self, stream: asynchronous.AsyncStream) -> None:
        self._stream = stream

    @property
    def answer(self) -> answers.Answer:
        """The whole answer, after the last chunk.

        Raises:
            RuntimeError: the stream has not been read to its end.
        """
        return self._stream.answer

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> answers.Chunk:
        chunk = _run(self._next())
        if chunk is None:
            raise StopIteration
        return chunk

    async def _next(self) -> answers.Chunk | None:
        return await anext(self._stream, None)

    def close(self) -> None:
        """Cancels the request on the server, unless it has ended."""
        _run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
