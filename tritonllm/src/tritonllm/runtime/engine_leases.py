"""The engine's side of `leases`: grants them, and ends them when their pipeline releases them or is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tritonllm.runtime import threads, wire

# A pipeline connects as soon as it has its first lease.
_CONNECT_SECONDS = 10.0


class EngineLeases:
    """The leases of one engine, by name; a name is `<owner>.<number>`.

    Args:
        call: calls a function in the engine's event loop, from any thread.
    """

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call
        self._granted: dict[str, tuple[Any, float]] = {}
        # Granted in Triton's thread, released in the event loop.
        self._lock = threading.Lock()

    def grant(self, name: str, sender: Any, path: str) -> None:
        """Answers the call of a lease with the engine's socket; for Triton's thread."""
        with self._lock:
            self._granted[name] = (sender, time.monotonic())
        wire.send(sender, {"text_output": [path]}, final=False)

    def release(self, name: str, report: Callable[[], None]) -> None:
        """Ends a lease.

        Args:
            name: of the lease.
            report: called in the event loop when Triton has received its end.
        """
        with self._lock:
            sender, _ = self._granted.pop(name, (None, 0.0))
        # In a thread of its own: Triton's receiver is another process, which can be stopped or dead.
        threads.start(f"release-{name}", self._end, sender, report)

    def disconnected(self, owner: str) -> None:
        """Ends the leases of a pipeline that is gone."""
        for name in self._names(lambda holder, _: holder == owner):
            self.release(name, _no_report)

    def expire(self, connected: Callable[[str], bool]) -> None:
        """Ends the leases of pipelines that never connected."""
        now = time.monotonic()
        for name in self._names(
            lambda holder, granted: now - granted > _CONNECT_SECONDS and not connected(holder)
        ):
            self.release(name, _no_report)

    def _names(self, condition: Callable[[str, float], bool]) -> list[str]:
        with self._lock:
            return [
                name
                for name, (_, granted) in self._granted.items()
                if condition(name.rpartition(".")[0], granted)
            ]

    def _end(self, sender: Any, report: Callable[[], None]) -> None:
        if sender is not None:
            wire.end(sender)
        self._call(report)


def _no_report() -> None:
    """In place of a report, to a pipeline that is gone."""
