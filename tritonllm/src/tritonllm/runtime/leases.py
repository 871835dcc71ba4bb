"""Leases: the calls through Triton that keep an engine loaded while a pipeline uses it.

Prompts and tokens travel over the private stream (`channel`), of which Triton knows nothing. So a pipeline also keeps
one BLS call to its engine open: the lease. Triton does not unload a model that has a call open. The engine answers it
with one response at once, which names the engine's socket, and ends it when the pipeline releases it.

Nothing here ever waits in Triton's response iterator: `ResponseIterator::Next()` re-acquires the GIL while it holds
the iterator's mutex, which can deadlock the process (docs/workarounds.md). A response is taken only when it is known
to have arrived: the first when `exec` has returned, the end when the engine has reported over the stream that it has
been sent. If the engine dies, the iterator is not touched again.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import time
import uuid
from typing import Any

import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors
from tritonllm.ipc import run_token
from tritonllm.runtime import threads, wire

TOKEN = "token"
LEASE = "lease"
"""Private parameters of the call; see `wire.PRIVATE`."""

# Triton answers at once, unless it has begun to end this model: then it does not answer calls any more.
_OPEN_SECONDS = 10.0
# workaround: W11
# Triton cleans up behind a finished iterator without holding the GIL, and frees Python objects in doing so: if
# Python drops its reference meanwhile, the process crashes. The clean-up takes milliseconds.
_KEEP_SECONDS = 10.0


class TritonLeases:
    """Leases by BLS calls, made in a thread of their own because Triton blocks the caller.

    It is a daemon thread: a call that Triton does not answer any more must not keep the process from ending.

    Args:
        model: name of the engine model.
        owner: identifies this pipeline process to the engine.
    """

    def __init__(self, model: str, owner: str) -> None:
        self._model = model
        self._owner = owner
        self._numbers = itertools.count(1)
        self._thread = threads.Worker("leases")
        self._iterators: dict[str, Any] = {}
        self._finished: collections.deque[tuple[float, Any]] = collections.deque()
        # Never asked and never freed: what a dead engine leaves, a few objects per crash.
        self._abandoned: list[Any] = []

    async def open(self) -> tuple[str, str]:
        """See `engine_client.Leases`."""
        name = f"{self._owner}.{next(self._numbers)}"
        opened = asyncio.wrap_future(self._thread.submit(self._exec, name))
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                return name, await opened
        except TimeoutError:
            raise self._unavailable(f"Triton has not answered for {_OPEN_SECONDS:.0f} s") from None

    def finish(self, name: str) -> None:
        """See `engine_client.Leases`."""
        self._thread.submit(self._drain, name)

    def abandon(self, name: str) -> None:
        """See `engine_client.Leases`."""
        if iterator := self._iterators.pop(name, None):
            self._abandoned.append(iterator)

    def close(self) -> None:
        """See `engine_client.Leases`."""
        self._thread.close()

    def _exec(self, name: str) -> str:
        request = pb_utils.InferenceRequest(
            model_name=self._model,
            inputs=[],
            requested_output_names=["text_output"],
            parameters={wire.PRIVATE + TOKEN: run_token.current(), wire.PRIVATE + LEASE: name},
        )
        try:
            iterator = request.exec(decoupled=True)
        except pb_utils.TritonModelException as error:
            raise self._unavailable(str(error)) from None
        self._iterators[name] = iterator
        # workaround: W10
        response = next(iter(iterator), None)
        if response is None:
            raise self._unavailable("it ended the call without a response")
        if response.has_error():
            self.abandon(name)
            raise self._unavailable(errors.parse(response.error().message()).message)
        return wire.first_text(response)

    def _drain(self, name: str) -> None:
        iterator = self._iterators.pop(name, None)
        # Not with `for`, which would begin Triton's iterator again.
        while iterator is not None and next(iterator, None) is not None:
            pass
        now = time.monotonic()
        self._finished.append((now + _KEEP_SECONDS, iterator))
        while self._finished[0][0] < now:
            self._finished.popleft()

    def _unavailable(self, reason: str) -> errors.RequestError:
        return errors.RequestError(
            "unavailable", "", f"the engine {self._model} can't be called: {reason}; try again later"
        )


def owner() -> str:
    """A name for this process that no other pipeline has."""
    return uuid.uuid4().hex
