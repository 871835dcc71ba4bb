"""The newest lines of the server's log: progress of a slow load, and the cause of a failed one."""

from __future__ import annotations

import collections
import re
import threading
from collections.abc import Sequence

_KEPT_LINES = 200
_MAX_LINE = 300

_EXCEPTION = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .+")
# Levels of Python's logging; a stack trace of CUDA or NCCL is logged with one of them, too.
_SEVERE = re.compile(r"\b(?:ERROR|CRITICAL|FATAL)\b.*")


class LogTail:
    """The newest lines, each at a position that only grows. Safe to use from several threads."""

    def __init__(self, kept: int = _KEPT_LINES) -> None:
        """Starts empty.

        Args:
            kept: number of lines to keep.
        """
        self._lines: collections.deque[str] = collections.deque(maxlen=kept)
        self._count = 0
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """Adds a line."""
        with self._lock:
            self._lines.append(line)
            self._count += 1

    def position(self) -> int:
        """Number of lines so far: where the next one will be."""
        with self._lock:
            return self._count

    def since(self, position: int) -> list[str]:
        """The lines from a position on that are still kept, oldest first."""
        with self._lock:
            new = self._count - position
            return list(self._lines)[-new:] if new > 0 else []

    def last(self, count: int) -> list[str]:
        """At most this many of the newest lines, oldest first."""
        with self._lock:
            return list(self._lines)[-count:]


def first_exception(lines: Sequence[str]) -> str:
    """The first exception in a log, without what precedes it on its line; empty if there is none."""
    found = (_EXCEPTION.search(line) for line in lines)
    return next((match.group() for match in found if match), "")


def last_error(lines: Sequence[str]) -> str:
    """The last exception or error message in a log, shortened; empty if there is none."""
    for line in reversed(lines):
        if found := _EXCEPTION.search(line) or _SEVERE.search(line):
            return found.group()[:_MAX_LINE].strip()
    return ""


def newest(lines: Sequence[str]) -> str:
    """The newest line that is not blank, shortened; empty if there is none."""
    return next((line.strip()[:_MAX_LINE] for line in reversed(lines) if line.strip()), "")
