"""The supervisor's descendants: which models they run, and how they are ended so that none outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import psutil

from tritonllm.serve import reaper
from tritonllm.weights import token

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_STUB = "triton_python_backend_stub"
# vLLM gives its processes such names; other descendants of an engine come and go.
_WORKER_PREFIX = "VLLM::"
# Time for the descendants of a dead stub to end by themselves and to remove their shared memory.
_GRACE_SECONDS = 1.0


def become_subreaper() -> None:
    """Makes orphaned descendants children of this process, so that they can be found and ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stubs(server: int, repository: Path) -> dict[str, frozenset[int]]:
    """The running stub processes of a tritonserver.

    Args:
        server: process id of tritonserver.
        repository: its model repository.

    Returns:
        Process ids by model, without zombies.
    """
    found: dict[str, set[int]] = {}
    for process in _children(server, recursive=False):
        model = _model(process, repository)
        if model is not None:
            found.setdefault(model, set()).add(process.pid)
    return {model: frozenset(pids) for model, pids in found.items()}


def workers(stubs: Iterable[int]) -> frozenset[int]:
    """The running worker processes of an engine.

    Args:
        stubs: process ids of the engine's stubs.
    """
    found: set[int] = set()
    for stub in stubs:
        for process in _children(stub, recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name().startswith(_WORKER_PREFIX) and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process.pid)
    return frozenset(found)


def _model(process: psutil.Process, repository: Path) -> str | None:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE or len(command) < 2 or Path(command[0]).name != _STUB:
            return None
        # The stub's first argument is `<repository>/<model>/<version>/model.py`.
        path = Path(command[1])
        return path.relative_to(repository).parts[0] if path.is_relative_to(repository) else None
    return None


# workaround: W19
class Orphans:
    """Ends orphans: descendants of the supervisor whose parent has died."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def gone(self) -> bool:
        """Whether there was none at the last check."""
        return not self._seen

    def tend(self, server: int, others: Collection[int] = ()) -> None:
        """Reaps zombies, and kills orphans of tritonserver's session after a grace period of one second.

        Only that session: as the first process of a container the supervisor also inherits other orphans, such as
        commands that were run in the container by hand.

        Args:
            server: process id of tritonserver, which is not an orphan.
            others: process ids of further children of the supervisor.
        """
        now = time.monotonic()
        seen: dict[int, float] = {}
        for process in _children(os.getpid(), recursive=False):
            if (
                process.pid == server
                or process.pid in others
                or _collected(process.pid)
                or _session(process.pid) != server
            ):
                continue
            seen[process.pid] = self._seen.get(process.pid, now)
            if now - seen[process.pid] > _GRACE_SECONDS and not _removes_shared_memory(process):
                _kill(process.pid)
        self._seen = seen


class Reaper:
    """The process that ends everything else if this one is killed. See `reaper`.

    Attributes:
        pid: its process id.
    """

    def __init__(self, name: str, directory: Path) -> None:
        """Starts it.

        Args:
            name: name of the run.
            directory: directory of the run.
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


def end_all(keep: Collection[int], timeout: float = 5) -> list[int]:
    """Kills all descendants of this process and waits until they are gone.

    Args:
        keep: sessions to spare.
        timeout: seconds; a process in an uninterruptible system call may take longer.

    Returns:
        Process ids of those that are still there.
    """
    started = time.monotonic()
    while left := _below(keep):
        waited = time.monotonic() - started
        if waited > timeout:
            break
        for process in left:
            # Stubs first: their descendants then end by themselves and remove their shared memory.
            if waited > _GRACE_SECONDS or _is_stub(process):
                _kill(process.pid)
            _collected(process.pid)
        time.sleep(0.02)
    return [process.pid for process in left]


def _below(keep: Collection[int]) -> list[psutil.Process]:
    return [
        process for process in _children(os.getpid(), recursive=True) if _session(process.pid) not in keep
    ]


def _is_stub(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return Path((process.cmdline() or [""])[0]).name == _STUB
    return False


def _removes_shared_memory(process: psutil.Process) -> bool:
    """Whether it is Python's resource tracker, which ends once the last process that uses it is gone."""
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
