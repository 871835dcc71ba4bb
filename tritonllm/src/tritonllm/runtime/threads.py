"""Background threads of a model: a thread that ends unexpectedly ends its process, so that `serve` reloads the model.

A model that goes on without one of its threads looks healthy and does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

STALL_SECONDS = 60.0
"""An event loop that does nothing for so long is stuck: its turns take milliseconds."""
_BEAT_SECONDS = 5.0
_STDERR = 2


def start(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    """Starts a daemon thread; an exception in it ends the process."""

    def run() -> None:
        try:
            target(*args)
        except BaseException:
            fail(f"the thread {name} failed")

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class Worker:
    """Runs functions one after the other in a daemon thread, which does not keep the process from ending.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[futures.Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        start(name, self._run)

    def submit(self, function: Callable[..., T], *args: Any) -> futures.Future[T]:
        """Runs a function, soon."""
        future: futures.Future[T] = futures.Future()
        self._jobs.put((future, functools.partial(function, *args)))
        return future

    def close(self) -> None:
        """Ends the thread when it has run what was submitted."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)


def fail(reason: str) -> None:
    """Ends the process at once; what is wrong is logged, with the exception that is being handled."""
    log.critical("%s; the process exits, so that the model is loaded again", reason, exc_info=True)
    sys.stderr.flush()
    os._exit(1)


class EventLoop:
    """An event loop in a thread of its own.

    Attributes:
        loop: the event loop.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = start(name, self._run)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Calls a function in the loop, soon; for other threads."""
        self.loop.call_soon_threadsafe(function, *args)

    def result(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Runs a coroutine in the loop and waits for its result; for other threads.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def watch(self, seconds: float = STALL_SECONDS) -> None:
        """From now on, a loop that is stuck prints the stacks of all threads and ends the process.

        The timer is `faulthandler`'s: it works without the GIL, which a stuck process may hold. There is one per
        process, so only one loop can be watched.
        """
        self.call(self._beat, seconds)

    def close(self) -> None:
        """Ends the loop and its thread."""
        self.call(self.loop.stop)
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        with contextlib.suppress(RuntimeError):
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def _beat(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
        self.loop.call_later(_BEAT_SECONDS, self._beat, seconds)
