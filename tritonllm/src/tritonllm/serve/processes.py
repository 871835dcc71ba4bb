"""Processes below the supervisor: which models they run, and how none of them outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tritonllm.serve import reaper
from tritonllm.weights import token

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_STUB = "triton_python_backend_stub"
# Time for what a dead stub started to end by itself, and to remove its own shared memory.
_GRACE_SECONDS = 1.0


def become_subreaper() -> None:
    """Makes orphans below this process its children, so that they can be found and ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stubs(server: int, repository: Path) -> dict[str, frozenset[int]]:
    """The living stub processes of a tritonserver.

    Args:
        server: process id of tritonserver.
        repository: its model repository.

    Returns:
        Process ids by model. A killed stub that is still a zombie is not living.
    """
    found: dict[str, set[int]] = {}
    for process in _children(server, recursive=False):
        model = _model(process, repository)
        if model is not None:
            found.setdefault(model, set()).add(process.pid)
    return {model: frozenset(pids) for model, pids in found.items()}


def _model(process: psutil.Process, repository: Path) -> str | None:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE or len(command) < 2 or Path(command[0]).name != _STUB:
            return None
        # The stub's first argument is `<repository>/<model>/<version>/model.py`.
        path = Path(command[1])
        return path.relative_to(repository).parts[0] if path.is_relative_to(repository) else None
    return None


class Orphans:
    """Ends what is left of processes that died below the supervisor."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def gone(self) -> bool:
        """Whether none was left at the last look."""
        return not self._seen

    def tend(self, server: int) -> None:
        """Collects the dead and, a moment after they came, kills orphans of tritonserver's session.

        Only that session: as the first process of a container the supervisor also inherits strangers, such
        as what somebody started in the container by hand.

        Args:
            server: process id of tritonserver, which is no orphan.
        """
        now = time.monotonic()
        seen: dict[int, float] = {}
        for process in _children(os.getpid(), recursive=False):
            if process.pid == server or _collected(process.pid) or _session(process.pid) != server:
                continue
            seen[process.pid] = self._seen.get(process.pid, now)
            if now - seen[process.pid] > _GRACE_SECONDS and not _removes_shared_memory(process):
                _kill(process.pid)
        self._seen = seen


class Reaper:
    """The process that ends everything else, should this one be killed. See `reaper`.

    Attributes:
        pid: its process id.
    """

    def __init__(self, name: str, directory: Path) -> None:
        """Starts it.

        Args:
            name: of the run.
            directory: of the run.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, name, str(directory)],
            env=token.without(os.environ),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Reaper:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def end_all(keep: int, timeout: float = 5) -> list[int]:
    """Kills everything below this process and waits until it is gone.

    Args:
        keep: a process id that is left alone.
        timeout: seconds; a process in an uninterruptible call of the kernel may take longer.

    Returns:
        The process ids that are still there.
    """
    started = time.monotonic()
    while left := _below(keep):
        waited = time.monotonic() - started
        if waited > timeout:
            break
        for process in left:
            # Models first: what they started then ends by itself, and removes its own shared memory.
            if waited > _GRACE_SECONDS or _is_stub(process):
                _kill(process.pid)
            _collected(process.pid)
        time.sleep(0.02)
    return [process.pid for process in left]


def _below(keep: int) -> list[psutil.Process]:
    return [process for process in _children(os.getpid(), recursive=True) if process.pid != keep]


def _is_stub(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return Path((process.cmdline() or [""])[0]).name == _STUB
    return False


def _removes_shared_memory(process: psutil.Process) -> bool:
    """Whether it is Python's own helper, which ends by itself once the last process it works for is gone."""
    with contextlib.suppress(psutil.Error):
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    return False


def _children(pid: int, *, recursive: bool) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        yield from psutil.Process(pid).children(recursive=recursive)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _collected(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
