"""Notices that a model's process died, and brings the model back.

Triton 24.10 does neither: it calls a model ready whose process is gone and never starts another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tritonllm.serve import control_api, loader

_UNLOAD_SECONDS = 3.0
_POLL_SECONDS = 0.05

Alive = Mapping[str, frozenset[int]]
"""Model → process ids of its living stubs."""


class RecoveryFailed(Exception):
    """Only a new tritonserver helps; the text says why."""


def dead_models(index: Mapping[str, str], alive: Alive) -> list[str]:
    """Models that Triton calls ready and that have no process, sorted.

    An operator's unload, and a reload that replaces one process by another, are no loss: Triton says
    UNLOADING before it ends a process, and READY only when the new one runs.
    """
    return sorted(model for model, state in index.items() if state == "READY" and not alive.get(model))


def confirmed_dead_models(
    read_index: Callable[[], Mapping[str, str]], read_alive: Callable[[], Alive]
) -> list[str]:
    """Lost models, read twice: index and processes can't be read at the same instant.

    Raises:
        control_api.Unreachable: Triton does not answer.
    """
    first = dead_models(read_index(), read_alive())
    return [model for model in dead_models(read_index(), read_alive()) if model in first] if first else []


class ProbeTrigger:
    """Decides when it is worth asking Triton: whenever a process is gone, and now and then anyway."""

    def __init__(self, every: float = 2.0) -> None:
        """Starts without knowing any process.

        Args:
            every: seconds after which to ask although nothing seems wrong.
        """
        self._every = every
        self._pids: frozenset[int] = frozenset()
        self._next = 0.0

    def should_check(self, alive: Alive, now: float) -> bool:
        """Whether to ask, given the living processes.

        Args:
            alive: the processes.
            now: the monotonic clock.
        """
        pids = frozenset[int]().union(*alive.values())
        gone = self._pids - pids
        self._pids = pids
        if not gone and now < self._next:
            return False
        self._next = now + self._every
        return True

    def check_next(self) -> None:
        """Ask at the next opportunity: Triton did not answer this time."""
        self._next = 0.0


def heal(control: control_api.ControlApi, model: str, orphans_gone: Callable[[], bool]) -> None:
    """Unloads the dead model and loads it again with the configuration it had.

    The configuration is Triton's own, not the file's, so that a policy which was changed in place is kept.

    Args:
        control: of the server.
        model: its name.
        orphans_gone: whether nothing is left of what the dead process started: an engine's workers hold
            GPU memory.

    Raises:
        RecoveryFailed: its requests keep it from unloading, or it does not load.
        control_api.Unreachable: tritonserver ended meanwhile.
    """
    try:
        config = control.config(model)
        control.unload(model)
        if not within(_UNLOAD_SECONDS, lambda: control.index().get(model) != "UNLOADING"):
            raise RecoveryFailed("requests in flight keep it from unloading")
        if not within(_UNLOAD_SECONDS, orphans_gone):
            raise RecoveryFailed("processes that it had started do not end")
        control.load(model, config)
    except control_api.Refused as error:
        raise RecoveryFailed(loader.useful(str(error))) from None


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Waits for a condition; False if it does not come true in this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class RestartBudget:
    """A budget of new starts, so that what can't be helped is not tried for ever."""

    def __init__(self, limit: int = 3, window: float = 600) -> None:
        """Starts with all of it.

        Args:
            limit: how many starts within the window.
            window: seconds.
        """
        self._limit = limit
        self._window = window
        self._times: list[float] = []

    def delay(self, now: float) -> float | None:
        """Seconds to wait before the next start, each longer than the last; None when the budget is spent.

        Args:
            now: the monotonic clock.
        """
        self._times = [time for time in self._times if now - time < self._window]
        if len(self._times) >= self._limit:
            return None
        self._times.append(now)
        return float(2 ** (len(self._times) - 1) - 1)

    def exhausted(self) -> str:
        """What a person is told when there is none left."""
        return f"started {self._limit} times anew within {self._window / 60:.0f} minutes"
