"""Files and shared memory of a supervisor, and how the next supervisor removes those of one that died.

Everything is named after a lock file in /dev/shm that its owner keeps locked. The kernel releases the lock however the
owner ends, so a lock that can be acquired marks a stale run. Process ids would not do: in a container every supervisor
has the same one, and pods may share /dev/shm.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "tritonllm-"
_LOCK = "-owner"
# Any local user can create files in /dev/shm: a name that is not of this form is not trusted.
_NAME = re.compile(r"tritonllm-[0-9a-f]{12}")


@contextlib.contextmanager
def acquire(shared_memory: Path = SHARED_MEMORY, temporary: Path | None = None) -> Iterator[RunLock]:
    """Cleans up stale runs, then holds a new lock until the end of the block.

    Args:
        shared_memory: directory in which shared memory regions appear as files.
        temporary: parent of run directories; None for the system's directory for temporary files.
    """
    temporary = temporary or Path(tempfile.gettempdir())
    clean_stale_runs(shared_memory, temporary)
    name, descriptor = _take(shared_memory)
    owned = RunLock(name, shared_memory, temporary / name)
    try:
        owned.directory.mkdir(mode=0o700)
        yield owned
    finally:
        owned.clear_shared_memory()
        shutil.rmtree(owned.directory, ignore_errors=True)
        (shared_memory / f"{name}{_LOCK}").unlink(missing_ok=True)
        os.close(descriptor)


class RunLock:
    """The name of a run, locked by this process.

    Attributes:
        name: unique on this machine.
        directory: for files of this run; removed at its end.
    """

    def __init__(self, name: str, shared_memory: Path, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._shared_memory = shared_memory

    @property
    def region_prefix(self) -> str:
        """Prefix for the names of shared memory regions."""
        return f"{self.name}-region-"

    def clear_shared_memory(self) -> None:
        """Removes all regions of the run. Call it once no process uses them."""
        _remove_regions(self.name, self._shared_memory)


def clean_stale_runs(shared_memory: Path, temporary: Path) -> None:
    """Removes files and shared memory of runs whose supervisor has died.

    Args:
        shared_memory: see `acquire`.
        temporary: see `acquire`.
    """
    for lock in shared_memory.glob(f"{_PREFIX}*{_LOCK}"):
        name = lock.name.removesuffix(_LOCK)
        if not _NAME.fullmatch(name):
            continue
        # A lock of another user can't be opened: theirs to clean up.
        with contextlib.suppress(OSError), lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove_regions(name, shared_memory)
            shutil.rmtree(temporary / name, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_regions(name: str, shared_memory: Path) -> None:
    # The C library prefixes the names of semaphores.
    for pattern in (f"{glob.escape(name)}-region-*", f"sem.{glob.escape(name)}-region-*"):
        for region in shared_memory.glob(pattern):
            region.unlink(missing_ok=True)


def _take(shared_memory: Path) -> tuple[str, int]:
    while True:
        name = f"{_PREFIX}{uuid.uuid4().hex[:12]}"
        lock = shared_memory / f"{name}{_LOCK}"
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Between the two calls another supervisor may take it for stale and remove it.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return name, descriptor
        os.close(descriptor)
