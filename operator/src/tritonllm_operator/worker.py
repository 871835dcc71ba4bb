"""Looks after one pool: once for a burst of marks, again until it is settled, and later where that fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from tritonllm_operator import kube, metrics, reconcile

LOG = logging.getLogger(__name__)

# Between two looks at a pool on its way to what is wanted: soon at first, then less often, but within the 10 s in
# which a cause is to be seen. What has not come to its end after ten minutes can wait longer; events are looked at at once.
_FIRST_LOOK, _LAST_LOOK, _LATER_LOOK = 0.25, 5.0, 30.0
_LATER = 120
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0


class Worker:
    """Of one pool.

    Attributes:
        waiting: monotonic clock: the first mark that no pass has answered yet; None where there is none.
    """

    def __init__(self, key: reconcile.Key, pool: reconcile.Pool, turns: asyncio.Semaphore) -> None:
        """Does nothing before it runs; all workers share the turns."""
        self.pool = pool
        self.waiting: float | None = None
        self._key = key
        self._turns = turns
        self._dirty: float | None = None
        self._wake = asyncio.Event()

    def mark(self) -> None:
        """The pool is to be looked at."""
        # The latest mark counts: what is looked at must be newer than that.
        self._dirty = time.monotonic()
        self.waiting = self.waiting or self._dirty
        self._wake.set()

    async def run(self) -> None:
        """Looks after the pool until there is none."""
        failures = looks = 0
        wait: float | None = None
        while True:
            await self._due(wait)
            async with self._turns:
                # Also what was marked while it waited for its turn.
                marked, self._dirty = self._dirty, None
                self._wake.clear()
                outcome = await self._look(marked or time.monotonic())
            if marked is not None:
                looks = 0
            metrics.LAST_PASS.set_to_current_time()
            self.waiting = self._dirty
            if not isinstance(outcome, reconcile.Outcome):
                failures, wait = failures + 1, max(outcome, _retry(failures))
                continue
            failures = 0
            if outcome.gone and self._dirty is None:
                return
            looks += 1
            settled = outcome.settled and not outcome.acted
            wait = None if settled else _next_look(looks)
            if outcome.acted and looks == 1:
                wait = 0.0

    async def _due(self, wait: float | None) -> None:
        """Waits for a mark, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()

    async def _look(self, since: float) -> reconcile.Outcome | float:
        """How the pool was left, or after how many seconds at the earliest it can be looked at again."""
        began = time.monotonic()
        try:
            outcome = await self.pool.reconcile(since)
        except kube.Failed as error:
            if error.ending:
                # All of the pool goes with its namespace; events tell when.
                metrics.PASSES.labels("ending").inc()
                return reconcile.Outcome()
            LOG.warning("pool %s/%s can't be looked after, and is tried again: %s", *self._key, error)
            metrics.PASSES.labels("refused").inc()
            return error.retry_seconds
        except Exception:
            LOG.exception("a bug: the look at pool %s/%s ended with", *self._key)
            metrics.PASSES.labels("bug").inc()
            return 0.0
        metrics.PASSES.labels("acted" if outcome.acted else "unchanged").inc()
        metrics.PASS_SECONDS.observe(time.monotonic() - began)
        return outcome


def _next_look(looks: int) -> float:
    """Seconds until the next look at a pool that was looked at so often since something happened."""
    return min(_FIRST_LOOK * 1.5 ** min(looks - 1, 20), _LAST_LOOK if looks < _LATER else _LATER_LOOK)


def _retry(failures: int) -> float:
    """Seconds until the next try, after so many failures before this one."""
    return min(_FIRST_RETRY * 2**failures, _LAST_RETRY) * random.uniform(0.5, 1)
