"""How long to go on asking: back-off with jitter, as long as the Hub wants it, until nothing has come for too long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tritonllm.weights import failures

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0

T = TypeVar("T")


class Cancelled(Exception):
    """A stop was requested."""


class Retries:
    """Retries for all that is fetched together.

    Args:
        most_seconds: without any progress; then the latest failure counts.
        waiting: told before every wait: the failure, and the seconds.
    """

    def __init__(self, most_seconds: float, waiting: Callable[[failures.Failure, float], None]) -> None:
        self._most = most_seconds
        self._waiting = waiting
        self._latest = time.monotonic()
        # One file that comes is no reason to ask for another one more often.
        self._mine = threading.local()
        self._cancelled = threading.Event()

    def progress(self) -> None:
        """Something arrived for this thread: the wait starts again."""
        self._latest = self._mine.latest = time.monotonic()

    def cancel(self) -> None:
        """Ends every wait and every retry."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises where it was cancelled.

        Raises:
            Cancelled: it was.
        """
        if self._cancelled.is_set():
            raise Cancelled

    def run(self, operation: Callable[[], T]) -> T:
        """Does it until it succeeds, or can't.

        Args:
            operation: raises `Failure`s; those that say so are retried.

        Raises:
            Failure: one that is final, or that came after the maximum wait.
            Cancelled: a stop was requested.
        """
        attempt = 0
        while True:
            self.check()
            self._mine.latest = None
            try:
                result = operation()
            except failures.Failure as failure:
                if not failure.retry:
                    raise
                attempt = 1 if self._mine.latest is not None else attempt + 1
                seconds = failure.after_seconds + back_off(attempt)
                if time.monotonic() + seconds > self._latest + self._most:
                    raise
                self._waiting(failure, seconds)
                self._cancelled.wait(seconds)
            else:
                self.progress()
                return result


def back_off(attempt: int) -> float:
    """Seconds to wait after so many failures in a row: full jitter, so that replicas do not come back together.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** min(attempt, 10)))
