"""Turns SIGTERM, SIGINT and SIGHUP into something to wait for, so that they interrupt nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any

# SIGHUP: closing the terminal also shuts down in order.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Counts the signals that request a shutdown.

    A pipe wakes the waiter. An Event would not be safe: setting it in a signal handler may block on a lock that the
    interrupted code holds.

    Attributes:
        count: number of signals received.
    """

    def __init__(self) -> None:
        self.count = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        for number in _STOP:
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Returns after this many seconds, or as soon as a signal arrives."""
        if select.select([self._read], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")
