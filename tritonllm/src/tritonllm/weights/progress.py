"""How far a download is: for the file that other processes read, and for the terminal."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_PERIOD_SECONDS = 1.0
# The rate is a mean over about this long, so that it can be read.
_SMOOTH_SECONDS = 10.0


@dataclass(frozen=True)
class State:
    """How far a download is.

    Attributes:
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        bytes_done: on the volume, found there or fetched.
        bytes_total: of all files.
        bytes_per_second: lately.
        files_done: whole and verified.
        files_total: all.
        message: what it waits for; empty while bytes come.
        beat: counts up once a second, so that a reader sees that the writer lives.
    """

    repo: str
    commit: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: float
    files_done: int
    files_total: int
    message: str
    beat: int


class Progress:
    """Counts from several threads, told about once a second.

    Args:
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        path: of `progress.json`, removed at the end.
        show: called with every state.
    """

    def __init__(self, repo: str, commit: str, path: Path, show: Callable[[State], None]) -> None:
        self._repo, self._commit, self._path, self._show = repo, commit, path, show
        self._lock = threading.Lock()
        self._done = self._total = self._files_done = self._files_total = self._beat = 0
        self._rate = 0.0
        self._message = ""
        self._seen = (time.monotonic(), 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def expect(self, size: int, files: int) -> None:
        """Sets the totals."""
        with self._lock:
            self._total, self._files_total = size, files

    def add(self, size: int) -> None:
        """Counts bytes; fewer than none where they turned out wrong and are fetched again."""
        with self._lock:
            self._done += size
            self._message = ""

    def finish_file(self) -> None:
        """Counts a file that is whole and verified."""
        with self._lock:
            self._files_done += 1

    def say(self, message: str) -> None:
        """Notes what it waits for, until bytes come again."""
        with self._lock:
            self._message = message

    def _run(self) -> None:
        while True:
            self._tell()
            if self._stop.wait(_PERIOD_SECONDS):
                return

    def _tell(self) -> None:
        with self._lock:
            now, (before, done) = time.monotonic(), self._seen
            if now > before:
                share = min(1.0, (now - before) / _SMOOTH_SECONDS) if self._beat > 1 else 1.0
                self._rate += ((self._done - done) / (now - before) - self._rate) * share
            self._seen = now, self._done
            self._beat += 1
            state = State(
                self._repo,
                self._commit,
                self._done,
                self._total,
                round(self._rate),
                self._files_done,
                self._files_total,
                self._message,
                self._beat,
            )
        # A volume that is full or gone says so to the download itself.
        with contextlib.suppress(OSError):
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(asdict(state)) + "\n")
            temporary.replace(self._path)
        self._show(state)
