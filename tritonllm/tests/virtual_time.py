"""An event loop whose clock jumps: when nothing is ready, it is at once the time of the next timer.

Sockets are real. A test that would wait forever fails with `Deadlock`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

EXECUTOR_SECONDS = 0.0002


class Deadlock(Exception):
    """Nothing is ready and no timer is set, yet something is awaited."""


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See above. Functions for executors run a moment later."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()

        def run() -> None:
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(EXECUTOR_SECONDS, run)
        return future


class Events:
    """In the place of `threads.EventLoop`: the same loop, in the test's own thread."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop

    def call(self, function: Callable[..., object], *args: Any) -> None:
        self.loop.call_soon(function, *args)
