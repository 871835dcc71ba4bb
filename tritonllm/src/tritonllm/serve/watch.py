"""Detects models whose process died, and reloads them.

Triton 24.10 does neither: it keeps reporting such a model as ready and never restarts its process.
"""
# workaround: W1

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tritonllm.serve import control_api, loader

# Longer than for other calls: a busy Triton is no reason for a restart, which ends all requests.
_API_SECONDS = 30.0
_UNLOAD_SECONDS = 3.0
_POLL_SECONDS = 0.05

Alive = Mapping[str, frozenset[int]]
"""Process ids of the running stubs, by model."""


class RecoveryFailed(Exception):
    """Only a restart of tritonserver helps; the message says why."""


def dead_models(
    index: Mapping[str, str], alive: Alive, instances: Callable[[str, frozenset[int]], int]
) -> list[str]:
    """Models that Triton reports as ready although processes are missing, sorted.

    An unload by the operator, or a reload that replaces processes by others, does not count: Triton reports
    UNLOADING before it ends a process, and READY only once the new ones run.

    Args:
        index: Triton's state of each model.
        alive: running processes by model.
        instances: returns how many processes a model has, given those that run.
    """
    ready = [(model, alive.get(model, frozenset())) for model, state in index.items() if state == "READY"]
    return sorted(model for model, pids in ready if not pids or len(pids) < instances(model, pids))


def confirmed_dead_models(
    read_index: Callable[[], Mapping[str, str]],
    read_alive: Callable[[], Alive],
    instances: Callable[[str, frozenset[int]], int],
) -> list[str]:
    """Models found dead twice in a row, as index and processes can't be read at the same instant.

    Raises:
        control_api.Refused: Triton's answer is not usable.
        control_api.Unreachable: Triton does not answer.
    """
    first = dead_models(read_index(), read_alive(), instances)
    return [m for m in dead_models(read_index(), read_alive(), instances) if m in first] if first else []


class ProbeTrigger:
    """Decides when to ask Triton for dead models: when a process has disappeared, and at intervals."""

    def __init__(self, every: float = 2.0) -> None:
        """Starts without any known process.

        Args:
            every: interval in seconds.
        """
        self._every = every
        self._pids: frozenset[int] = frozenset()
        self._next = 0.0

    def should_check(self, alive: Alive, now: float) -> bool:
        """Whether to ask Triton.

        Args:
            alive: the running processes.
            now: the monotonic clock.
        """
        pids = frozenset[int]().union(*alive.values())
        gone = self._pids - pids
        self._pids = pids
        if not gone and now < self._next:
            return False
        self._next = now + self._every
        return True

    def retry(self) -> None:
        """Makes the next call return True: Triton did not answer this time."""
        self._next = 0.0


def heal(
    control: control_api.ControlApi, model: str, orphans_gone: Callable[[], bool], load_timeout: float
) -> None:
    """Unloads a dead model and loads it again with the configuration it had.

    The configuration is read from Triton, not from the repository, so that a policy that was changed in place is kept.

    Args:
        control: API of the server.
        model: its name.
        orphans_gone: whether the processes that the dead process had started are gone: an engine's workers hold GPU
            memory.
        load_timeout: seconds that the load may take.

    Raises:
        RecoveryFailed: requests in flight keep it from unloading, it does not load, or Triton does not answer in time.
        control_api.Gone: tritonserver ended.
    """
    try:
        config = control.config(model, _API_SECONDS)
        control.unload(model, _API_SECONDS)
        # workaround: W2
        if not within(_UNLOAD_SECONDS, lambda: control.index(_API_SECONDS).get(model) != "UNLOADING"):
            raise RecoveryFailed("requests in flight keep it from unloading")
        if not within(_UNLOAD_SECONDS, orphans_gone):
            raise RecoveryFailed("processes that it had started do not end")
    except control_api.TimedOut as error:
        raise RecoveryFailed(str(error)) from None
    except control_api.Refused as error:
        raise RecoveryFailed(loader.useful(str(error))) from None
    try:
        control.load(model, config, load_timeout)
    except control_api.TimedOut:
        raise RecoveryFailed(loader.overdue(load_timeout, ())) from None
    except control_api.Refused as error:
        raise RecoveryFailed(loader.useful(str(error))) from None


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Waits for a condition; False if it does not become true in time.

    Args:
        seconds: how long to wait.
        condition: checked every 50 ms, and at least once.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class RestartBudget:
    """Limits restarts of tritonserver, so that a permanent failure ends `serve`."""

    def __init__(self, limit: int = 3, window: float = 600) -> None:
        """Starts with the whole budget.

        Args:
            limit: maximum number of restarts within the window.
            window: seconds.
        """
        self._limit = limit
        self._window = window
        self._times: list[float] = []

    def delay(self, now: float) -> float | None:
        """Seconds to wait before the next restart, longer each time; None if the budget is exhausted.

        Args:
            now: the monotonic clock.
        """
        self._times = [time for time in self._times if now - time < self._window]
        if len(self._times) >= self._limit:
            return None
        self._times.append(now)
        return float(2 ** (len(self._times) - 1) - 1)

    def exhausted(self) -> str:
        """Says what has exhausted the budget."""
        return f"restarted {self._limit} times within {self._window / 60:.0f} minutes"
