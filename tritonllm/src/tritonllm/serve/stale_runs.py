"""What a supervisor owns outside its own memory, and how the next one tells that the owner is dead.

Everything is named after a lock file in /dev/shm that its owner holds locked. The kernel lets go of the lock
however the owner ends, so a lock that can be taken marks stale_runs. Process ids would not do: in a container
every supervisor has the same one, and pods may share /dev/shm.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "tritonllm-"
_LOCK = "-owner"


@contextlib.contextmanager
def acquire(shared_memory: Path = SHARED_MEMORY, temporary: Path | None = None) -> Iterator[RunLock]:
    """Removes what dead owners left, then owns a new name until the end of the block.

    Args:
        shared_memory: where shared memory regions appear as files.
        temporary: where run directories are made; the system's directory for temporary files if None.
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
    """A name that this process owns.

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
        """What names of shared memory regions start with."""
        return f"{self.name}-region-"

    def clear_shared_memory(self) -> None:
        """Removes every region: for when no process that could use one is left."""
        _remove_regions(self.name, self._shared_memory)


def clean_stale_runs(shared_memory: Path, temporary: Path) -> None:
    """Removes what owners left that are dead."""
    for lock in shared_memory.glob(f"{_PREFIX}*{_LOCK}"):
        # A lock of another user can't be opened: theirs to clean up.
        with contextlib.suppress(OSError), lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            name = lock.name.removesuffix(_LOCK)
            _remove_regions(name, shared_memory)
            shutil.rmtree(temporary / name, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_regions(name: str, shared_memory: Path) -> None:
    # The C library puts its own prefix before the name of a semaphore.
    for pattern in (f"{name}-region-*", f"sem.{name}-region-*"):
        for region in shared_memory.glob(pattern):
            region.unlink(missing_ok=True)


def _take(shared_memory: Path) -> tuple[str, int]:
    while True:
        name = f"{_PREFIX}{uuid.uuid4().hex[:12]}"
        lock = shared_memory / f"{name}{_LOCK}"
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Another supervisor may take it for a stale one between the two calls, and remove it.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return name, descriptor
        os.close(descriptor)
