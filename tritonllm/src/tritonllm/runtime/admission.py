"""How many requests are served at once, how many may wait, and what one more gets.

Triton's own queue limits do not hold back a decoupled model, so the pipeline brings its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent import futures

from tritonllm import errors

log = logging.getLogger(__name__)


class Gate:
    """Runs up to `concurrent` tasks in threads and lets up to `queued` more wait.

    Args:
        concurrent: tasks that run at once.
        queued: tasks that may wait for a thread.
        count: told of every change: tasks running and tasks waiting, each +1, 0 or -1.
    """

    def __init__(self, concurrent: int, queued: int, count: Callable[[int, int], None]) -> None:
        self._limit = concurrent + queued
        self._queued = queued
        self._count = count
        self._admitted = 0
        self._lock = threading.Lock()
        self._threads = futures.ThreadPoolExecutor(concurrent, thread_name_prefix="request")

    def submit(self, task: Callable[[], None]) -> None:
        """Runs a task as soon as a thread is free.

        Args:
            task: has to deal with its own errors.

        Raises:
            RequestError: `queue_full`.
        """
        with self._lock:
            if self._admitted >= self._limit:
                raise errors.RequestError(
                    "queue_full",
                    "",
                    f"{self._queued} requests are waiting already; try again later or add replicas",
                )
            self._admitted += 1
        self._count(0, 1)
        self._threads.submit(self._run, task)

    def close(self) -> None:
        """Waits for the tasks that were admitted."""
        self._threads.shutdown()

    def _run(self, task: Callable[[], None]) -> None:
        self._count(1, -1)
        try:
            task()
        except Exception:
            log.exception("a task failed, which none should")
        finally:
            with self._lock:
                self._admitted -= 1
            self._count(-1, 0)
