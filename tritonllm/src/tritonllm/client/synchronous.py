"""The client for everybody else: the asynchronous one, run in a thread.

So deadlines, errors and cancellation are those of the asynchronous client to the letter. One thread with one
event loop serves all clients of the process, however many threads use them.
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


# A forked process has no threads but its own.
os.register_at_fork(after_in_child=_started.cache_clear)


def _run(work: Coroutine[Any, Any, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    finally:
        # Ctrl-C while waiting: the request must not live on.
        future.cancel()


class Client:
    """Asks the endpoints of one server; any number of threads may share it.

    Args:
        url: `host:port` or `grpc://host:port` for gRPC (Triton's port 8001), `http://host:port` for HTTP (8000);
            `grpcs` and `https` with TLS.
        timeout: seconds that a request may take as a whole, where a call does not say.

    Raises:
        InvalidRequest: the URL is none.
    """

    def __init__(self, url: str = "localhost:8001", *, timeout: float = asynchronous.DEFAULT_TIMEOUT) -> None:
        self._client = asynchronous.AsyncClient(url, timeout=timeout)

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
        """Asks for a whole answer; see `AsyncClient.generate`."""
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
        """Asks for an answer in pieces; see `AsyncClient.stream`."""
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
        """Asks what an endpoint's guardrails make of a text; see `AsyncClient.check`."""
        return _run(self._client.check(model, text, direction=direction, timeout=timeout))

    def close(self) -> None:
        """Ends the connection and every request that is under way, in whatever thread."""
        _run(self._client.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream:
    """The pieces of an answer, then the answer. Any thread may close it."""

    def __init__(self, stream: asynchronous.AsyncStream) -> None:
        self._stream = stream

    @property
    def answer(self) -> answers.Answer:
        """The whole answer, once the last piece was read.

        Raises:
            RuntimeError: the stream is not at its end yet.
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
        """Ends the request at the server if it is not over."""
        _run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
