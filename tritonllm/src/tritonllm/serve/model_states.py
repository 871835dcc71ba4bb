"""The state of each model of one tritonserver: written while loading and healing, read by the probes."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class Phase(enum.Enum):
    """Where a model is in its life."""

    WAITING = "is waiting to be loaded"
    LOADING = "is being loaded"
    LOADED = "is loaded"
    HEALING = "lost its process and is being reloaded"
    FAILED = "could not be loaded"


BUSY = (Phase.LOADING, Phase.HEALING)
"""Phases in which a thread of the supervisor works on the model."""


@dataclass(frozen=True)
class ModelStatus:
    """The state of one model.

    Attributes:
        phase: its phase.
        since: start of the phase, on the monotonic clock.
        reason: why it failed.
        log_position: position in the server's log at the start of the phase.
    """

    phase: Phase
    since: float
    reason: str = ""
    log_position: int = 0

    def sentence(self, now: float) -> str:
        """Says why the model is not ready."""
        if self.reason:
            return f"{self.phase.value}: {self.reason}"
        return f"{self.phase.value} (for {max(0, round(now - self.since))} s)"


class ModelStates:
    """The models of one tritonserver. A new server gets a new instance."""

    def __init__(
        self,
        models: Iterable[str],
        log_position: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts with all models waiting.

        Args:
            models: their names.
            log_position: current position in the server's log.
            clock: seconds.
        """
        self._log_position = log_position
        self._clock = clock
        self._lock = threading.Lock()
        self._statuses = {model: self._status(Phase.WAITING) for model in models}

    def set(self, model: str, phase: Phase, reason: str = "") -> None:
        """Records a new phase of a model."""
        with self._lock:
            self._statuses[model] = self._status(phase, reason)

    def try_mark_healing(self, model: str) -> bool:
        """Marks a model as being healed; False if it is being loaded or healed already."""
        with self._lock:
            status = self._statuses.get(model)
            if status is not None and status.phase in BUSY:
                return False
            self._statuses[model] = self._status(Phase.HEALING)
            return True

    def statuses(self) -> dict[str, ModelStatus]:
        """A snapshot of all models."""
        with self._lock:
            return dict(self._statuses)

    def _status(self, phase: Phase, reason: str = "") -> ModelStatus:
        return ModelStatus(phase, self._clock(), reason, self._log_position())
