"""What is known of each model of one tritonserver: written by loader and watch, read by the health port."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace


class Phase(enum.Enum):
    """Where a model is on its way."""

    WAITING = "waits for its turn to load"
    LOADING = "is being loaded"
    LOADED = "was loaded"
    HEALING = "lost its process and is being loaded again"
    FAILED = "could not be loaded"


@dataclass(frozen=True)
class Entry:
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


class Board:
    """The models of one tritonserver. A new server gets a new board."""

    def __init__(self, models: Iterable[str]) -> None:
        now = time.monotonic()
        self._entries = dict.fromkeys(models, Entry(Phase.WAITING, now))
        self._lock = threading.Lock()

    def set(self, model: str, phase: Phase, reason: str = "") -> None:
        """Notes what happened to a model."""
        with self._lock:
            self._entries[model] = Entry(phase, time.monotonic(), reason)

    def claim(self, model: str) -> bool:
        """Marks a model as being healed; False if somebody is at work on it already."""
        with self._lock:
            entry = self._entries.get(model)
            if entry is not None and entry.phase in (Phase.LOADING, Phase.HEALING):
                return False
            self._entries[model] = Entry(Phase.HEALING, time.monotonic())
            return True

    def entries(self) -> dict[str, Entry]:
        """All models, copied."""
        with self._lock:
            return {model: replace(entry) for model, entry in self._entries.items()}

    def count(self, phase: Phase) -> int:
        """How many models are in a phase."""
        return sum(entry.phase is phase for entry in self.entries().values())
