"""SIGTERM and Ctrl-C as something to wait for, instead of something that interrupts."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any

# A closed terminal is a reason to stop in order, too.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Counts the signals that ask the process to stop.

    A pipe wakes the waiter: an Event can't be used, because setting one inside a signal handler may wait for
    a lock that the interrupted code holds.

    Attributes:
        count: how many came.
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
        """Returns after this time, or as soon as a signal comes."""
        if select.select([self._read], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")
