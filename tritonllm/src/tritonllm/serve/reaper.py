"""Ends what a supervisor leaves when it is killed: a process of its own that waits for that moment.

Models do not reliably end with tritonserver: one that waits for tritonserver's answer to a metric, as all do
several times a second, waits for ever. Asking the kernel to kill them does not work either, as it would do
so when the *thread* ends that started them.

Run as a script with the standard library alone, so that it is small:

    python -I -S reaper.py <name of the run> <its directory>

Its standard input is a pipe of which only the supervisor holds the other end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Time for what models started to end by itself, and to remove shared memory of its own. As in `processes`.
_GRACE_SECONDS = 1.0


def end_sessions(name: str) -> None:
    """Kills every session that has a process with this name on its command line.

    tritonserver and its models have it, as a prefix of their shared memory; what they started is in their
    session.
    """
    sessions = {session for pid, session in _processes() if name in _command(pid)} - {os.getsid(0)}
    patient_until = time.monotonic() + _GRACE_SECONDS
    while left := [pid for pid, session in _processes() if session in sessions]:
        for pid in left:
            if name in _command(pid) or time.monotonic() > patient_until:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # proc(5): pid (name) state ppid pgrp session; the name may hold spaces and brackets.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in ("Z", "X"):
            yield int(entry.name), int(fields[3])


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    run, directory = sys.argv[1:]
    sys.stdin.buffer.read()
    end_sessions(f"{run}-region-")
    for pattern in (f"{run}-*", f"sem.{run}-*"):
        for file in Path("/dev/shm").glob(pattern):
            file.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
