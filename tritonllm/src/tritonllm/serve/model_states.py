"""What is known of each model of one tritonserver: written by loader and watch, read by the health port."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass


class Phase(enum.Enum):
    """Where a model is on its way."""

    WAITING = "waits for its turn to load"
    LOADING = "is being loaded"
    LOADED = "was loaded"
    HEALING = "lost its process and is being loaded again"
    FAILED = "could not be loaded"


@dataclass(frozen=True)
class ModelStatus:
    """One model.

    Attributes:
        phase: where it is.
        since: when that began, on the monotonic clock.
        reason: why, where it failed.
    """

    phase: Phase
    since: float
    reason: str = ""

    def sentence(self, now: float) -> str:
        """Why the model is not ready."""
        seconds = max(0, round(now - self.since))
        return (
            f"{self.phase.value}: {self.reason}" if self.reason else f"{self.phase.value} (for {seconds} s)"
        )


class ModelStates:
    """The models of one tritonserver. A new server gets a new one."""

    def __init__(self, models: Iterable[str]) -> None:
        now = time.monotonic()
        self._statuses = dict.fromkeys(models, ModelStatus(Phase.WAITING, now))
        self._lock = threading.Lock()

    def set(self, model: str, phase: Phase, reason: str = "") -> None:
        """Notes what happened to a model."""
        with self._lock:
            self._statuses[model] = ModelStatus(phase, time.monotonic(), reason)

    def try_mark_healing(self, model: str) -> bool:
        """Marks a model as being healed; False if somebody is at work on it already."""
        with self._lock:
            status = self._statuses.get(model)
            if status is not None and status.phase in (Phase.LOADING, Phase.HEALING):
                return False
            self._statuses[model] = ModelStatus(Phase.HEALING, time.monotonic())
            return True

    def statuses(self) -> dict[str, ModelStatus]:
        """All models, copied."""
        with self._lock:
            return dict(self._statuses)
