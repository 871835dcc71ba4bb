"""Admission: how many requests are served at once, how many can wait, and which is next.

Triton's own queue limits do not hold back a decoupled model, so the pipeline has a queue of its own. Not
thread-safe: the event loop of the pipeline owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from tritonllm import errors

T = TypeVar("T", bound=Hashable)


class AdmissionQueue(Generic[T]):
    """A concurrency limiter with a bounded first-in, first-out queue.

    Args:
        concurrent: maximum number of requests that run at once.
        queued: maximum number of requests that wait.
        count: called with every change: requests running and requests waiting, each +1, 0 or -1.
    """

    def __init__(self, concurrent: int, queued: int, count: Callable[[int, int], None]) -> None:
        self._concurrent = concurrent
        self._queued = queued
        self._count = count
        self._running: set[T] = set()
        # A dictionary is a queue from whose middle a request can leave in constant time.
        self._waiting: dict[T, None] = {}

    def enter(self, request: T) -> bool:
        """Admits a request.

        Returns:
            Whether it runs at once; otherwise a later `leave` returns it.

        Raises:
            RequestError: `queue_full`.
        """
        if len(self._running) < self._concurrent:
            self._running.add(request)
            self._count(1, 0)
            return True
        if len(self._waiting) >= self._queued:
            raise errors.RequestError(
                "queue_full",
                "",
                f"{self._queued} requests are waiting already; try again later or add replicas",
            )
        self._waiting[request] = None
        self._count(0, 1)
        return False

    def leave(self, request: T) -> T | None:
        """Removes a request that has ended, whether it ran or still waited.

        Returns:
            The request that runs now in its place, if any.
        """
        if request in self._waiting:
            del self._waiting[request]
            self._count(0, -1)
            return None
        self._running.remove(request)
        self._count(-1, 0)
        if not self._waiting:
            return None
        following = next(iter(self._waiting))
        del self._waiting[following]
        self._running.add(following)
        self._count(1, -1)
        return following
