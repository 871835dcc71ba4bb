"""Background threads whose failure never goes unnoticed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def start(
    name: str, target: Callable[[], object], on_failure: Callable[[Exception], object]
) -> threading.Thread:
    """Starts a daemon thread.

    Args:
        name: of the thread, for logs and debuggers.
        target: what it runs.
        on_failure: called in the thread with the exception that ended `target`, after it was logged with its
            traceback.
    """

    def run() -> None:
        try:
            target()
        except Exception as error:
            log.exception("thread %s failed", name)
            on_failure(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
