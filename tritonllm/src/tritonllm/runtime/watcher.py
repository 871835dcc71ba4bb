"""Ends the calls that nobody else would: past their deadline, or without a client."""

from __future__ import annotations

import logging
import threading
import time

from tritonllm.runtime import call, link

log = logging.getLogger(__name__)

# A client that leaves frees its place in the engine within a second; asking Triton more often than this
# about every call costs more than it gives.
PERIOD_SECONDS = 0.25


class Watcher:
    """Looks at every open call a few times a second.

    Args:
        engine: told to stop the calls that were ended.
    """

    def __init__(self, engine: link.Engine) -> None:
        self._engine = engine
        self._calls: set[call.Call] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def watch(self, accepted: call.Call) -> None:
        """Looks after a call until it is done."""
        self._calls.add(accepted)

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            self._engine.release()
            for watched in self._calls.copy():
                try:
                    self._look(watched)
                except Exception:
                    log.exception("a call could not be looked after")

    def _look(self, watched: call.Call) -> None:
        if not watched.done and time.monotonic() >= watched.deadline:
            watched.end("timeout")
            self._engine.stop(watched.id)
        elif not watched.done and watched.client_is_gone():
            watched.end("cancelled")
            self._engine.stop(watched.id)
        if watched.done:
            self._calls.discard(watched)
