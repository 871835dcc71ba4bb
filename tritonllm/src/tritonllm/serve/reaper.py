"""The reaper: a process that ends tritonserver, its models and the gateway if the supervisor is killed.

Models do not reliably end with tritonserver: one that waits for tritonserver's answer about a metric, as all do several
times a second, waits for ever. The kernel's PDEATHSIG does not help either, because it is sent when the *thread* ends
that started a process.

Run as a script that needs only the standard library, so that it is small:

    python -I -S reaper.py <name of the run> <its directory>

Its standard input is a pipe whose other end only the supervisor holds.
"""
# workaround: W4

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Programs whose sessions are ended: another process may mention the run on its command line by chance.
_GATEWAY_OPTION = "--run-directory"
_PROGRAMS = ("tritonserver", "triton_python_backend_stub")
# Time for the descendants of models to end by themselves and to remove their shared memory. As in `processes`.
_GRACE_SECONDS = 1.0


def end_sessions(name: str, directory: str) -> None:
    """Kills every session that contains a tritonserver, a model or a gateway of a run.

    Processes that they started are in their session.

    Args:
        name: prefix of the run's shared memory, which tritonserver and models have on their command line.
        directory: of the run, which gateways have there.
    """
    sessions = {session for pid, session in _processes() if belongs(_command(pid), name, directory)} - {
        os.getsid(0)
    }
    deadline = time.monotonic() + _GRACE_SECONDS
    while left := [pid for pid, session in _processes() if session in sessions]:
        for pid in left:
            if belongs(_command(pid), name, directory) or time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def belongs(command: list[str], name: str, directory: str) -> bool:
    """Whether a process is a tritonserver, a model or a gateway of this run.

    Args:
        command: its command line.
        name: see `end_sessions`.
        directory: see `end_sessions`.
    """
    if os.path.basename(command[0]) in _PROGRAMS:
        return any(name in argument for argument in command[1:])
    return f"{_GATEWAY_OPTION}={directory}" in command


def _processes() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # proc(5): pid (name) state ppid pgrp session; the name may contain spaces and brackets.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in ("Z", "X"):
            yield int(entry.name), int(fields[3])


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return [""]


if __name__ == "__main__":
    run, directory = sys.argv[1:]
    sys.stdin.buffer.read()
    end_sessions(f"{run}-region-", directory)
    for pattern in (f"{glob.escape(run)}-*", f"sem.{glob.escape(run)}-*"):
        for file in Path("/dev/shm").glob(pattern):
            file.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
