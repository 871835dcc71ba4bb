"""Locks that end with their holder, however it ends.

They save work and keep the bin man away; they never make anything correct. On network file systems they may do
nothing at all, and then two downloads run side by side and the second one finds that it is no longer needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, wait: Callable[[], bool]) -> Iterator[bool]:
    """Holds a lock inside the block.

    Args:
        path: of the lock's file, which is made and stays.
        wait: called whenever another process holds it; returns whether to try again, after a while.

    Yields:
        Whether it is held. It is not when `wait` gave up, or the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        # Made by another user; local file systems lock what can only be read as well.
        descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _acquire(descriptor, wait)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def in_use(directory: Path) -> Iterator[None]:
    """Keeps `gc` away from a published directory while it is served; works on a read-only volume, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            # Another holder only checks whether it is used, and releases it at once.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def is_used(directory: Path) -> bool:
    """Whether a process serves from a published directory, as far as this file system tells."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _acquire(descriptor: int, wait: Callable[[], bool]) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait():
                return False
        except OSError:
            return False
        else:
            return True
