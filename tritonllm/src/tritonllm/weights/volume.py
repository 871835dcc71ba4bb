"""Writes to the volume so that a power cut finds either the old state or the new one, and looks at it first."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tritonllm.weights import failures, sizes

# What a probe left that was killed is old enough to go by then.
_PROBE_SECONDS = 3600


def replace(path: Path, content: bytes) -> None:
    """Writes a small file: a reader sees all of the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Puts a file, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Puts the names of everything below a directory on the disk. Files are synced by who writes them."""
    for parent, _, _ in os.walk(directory):
        sync(Path(parent))


def room(directory: Path, needed: int, what: str) -> None:
    """Checks that there is room before the first byte is fetched.

    Args:
        directory: on the volume.
        needed: bytes still to be written.
        what: whose bytes, for the message.

    Raises:
        DiskFull: both numbers in the message.
    """
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise failures.DiskFull(
            f"{what} needs {sizes.readable(needed)} more and {directory} has {sizes.readable(free)} free;"
            " enlarge the volume, or remove unneeded weights: `tritonllm weights gc`"
        )


def probe(directory: Path) -> None:
    """Does once, with a small file, what a download will do.

    Raises:
        NotWritable: one of the steps failed; the message has the identity of this process and of the directory.
    """
    trial = directory / f".probe-{uuid.uuid4().hex}"
    moved = trial.with_suffix(".moved")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob("*.probe-*"):
            # Those of others who probe at the same time go while we look.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _PROBE_SECONDS:
                    left.unlink()
        replace(trial, b"?")
        trial.rename(moved)
        moved.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise failures.DiskFull(
                f"{directory} is full; enlarge the volume or remove weights: `tritonllm weights gc`"
            ) from None
        raise failures.NotWritable(_refusal(str(directory), error)) from None
    finally:
        for leftover in (trial, moved):
            with contextlib.suppress(OSError):
                leftover.unlink()


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns the volume's refusals inside the block into failures.

    Args:
        what: is being written, for the message.

    Raises:
        DiskFull: the volume is full, or its quota is used up.
        NotWritable: anything else that it refuses.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise failures.DiskFull(
                f"the volume is full, while writing {what}; enlarge it, or remove unneeded weights:"
                " `tritonllm weights gc`. What is downloaded stays and is not fetched again"
            ) from error
        raise failures.NotWritable(_refusal(what, error)) from error


def _refusal(what: str, error: OSError) -> str:
    said = f"{what} can't be written: {error.strerror or error}"
    if error.errno not in (errno.EACCES, errno.EPERM) or not isinstance(error.filename, str):
        return said
    me = f"uid {os.getuid()}, gid {os.getgid()}, groups {sorted(os.getgroups())}"
    # Names are made in a directory: its mode counts where they are not there yet.
    path = Path(error.filename)
    existing = next(place for place in (path, *path.absolute().parents) if _seen(place))
    owner = existing.stat()
    return (
        f"{said}. This process has {me}; {existing} belongs to"
        f" uid {owner.st_uid}, gid {owner.st_gid}, mode {stat.S_IMODE(owner.st_mode):04o}. On Kubernetes set"
        " `podSecurityContext.fsGroup`; a CSI driver with `fsGroupPolicy: None` needs its own uid option"
    )


def _seen(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Inside a directory that can't be entered.
        return False


def discard(directory: Path, trash: Path) -> None:
    """Removes a directory: out of everyone's sight by one rename, then file by file."""
    trash.mkdir(exist_ok=True)
    going = trash / f"{directory.name}.{uuid.uuid4().hex}"
    directory.rename(going)
    sync(directory.parent)
    shutil.rmtree(going)
