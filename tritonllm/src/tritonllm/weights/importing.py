"""Makes a directory that was filled by other means a published one, for places that no hub can be reached from."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tritonllm.weights import (
    check,
    failures,
    integrity,
    layout,
    lock,
    marker,
    progress,
    selection,
    staging,
    sync,
    volume,
)

_BLOCK = 4 << 20
# So that the disk writes while we read, and a container's memory is not taken up by unwritten pages.
_SYNC_BYTES = 64 << 20


def import_directory(
    cache: layout.Cache,
    directory: Path,
    source: sync.Source,
    show: Callable[[progress.State], None] = lambda state: None,
) -> sync.Published:
    """Publishes the files of a directory, or marks it where it is if that is their place already.

    Only files that a download would choose are taken, and links are followed, so that a snapshot of
    huggingface_hub's cache is as good as a plain directory. It can't be checked that the commit is the right one; the
    digests that huggingface_hub's cache has for its files are compared.

    Args:
        cache: where they shall be.
        directory: with the files of one commit.
        source: what they are; the revision is recorded to be the commit, which must be there.
        show: told of every state.

    Raises:
        ValueError: the directory does not exist, or the commit is invalid.
        Failure: see `failures`. Nothing is published then that was not before.
    """
    commit = source.commit
    if commit is None or not layout.is_commit(commit):
        raise ValueError(f"{commit} is no commit: 40 hexadecimal digits in lower case")
    if not directory.is_dir():
        raise ValueError(f"{directory} is no directory")
    volume.probe(cache.root)
    published = sync.find(cache, source)
    if published is None:
        published = _bring(cache, directory, source, commit, show)
    if not layout.is_commit(source.revision):
        with volume.writing(f"the commit of {source.repo} at {source.revision}"):
            volume.replace(cache.ref(source.repo, source.revision), f"{commit}\n".encode())
    return published


def _bring(
    cache: layout.Cache,
    directory: Path,
    source: sync.Source,
    commit: str,
    show: Callable[[progress.State], None],
) -> sync.Published:
    place = dataclasses.replace(cache.snapshot(source.repo, commit), attempt=f".{uuid.uuid4().hex}")
    before = marker.of(place, place.directory)
    wanted = source.wanted.joined(before.wanted) if before else source.wanted
    with _reading(directory):
        chosen = selection.select(check.local_files(directory), wanted, source.repo)
        _sound(directory, chosen.files, directory)
    there = before.files if before else ()
    known = {file.path for file in there}
    missing = [file for file in chosen.files if file.path not in known]
    here = _is(directory, place.directory) and not any(
        (directory / file.path).is_symlink() for file in missing
    )
    with contextlib.ExitStack() as stack:
        with volume.writing(str(place.staging)):
            stack.enter_context(lock.exclusive(place.lock, lambda: False))
            staging.inherit(place)
            # What a download left may be right, but to know that takes as long as to copy it.
            staging.prepare(place, (), adopt=False)
        stack.callback(shutil.rmtree, place.staging, ignore_errors=True)
        shown = stack.enter_context(progress.Progress(place.repo, commit, place.progress, show))
        needed = sum(file.size for file in missing)
        shown.expect(needed, len(missing))
        if not here:
            volume.room(cache.root, needed, place.repo)
        taken = [_take(directory, file, None if here else place.files, shown) for file in missing]
        files = (*there, *taken)
        declared = marker.Marker(place.repo, commit, wanted, chosen.format, files, wanted.digest())
        with volume.writing(str(place.directory)):
            if here:
                volume.sync_tree(place.directory)
                marker.write(place.directory, declared)
            else:
                _sound(place.files, missing, directory)
                staging.publish(place, declared, extend=before is not None)
    return sync.Published(place.directory, commit, declared.size, downloaded=True)


def _take(
    directory: Path, file: selection.RemoteFile, target: Path | None, shown: progress.Progress
) -> marker.File:
    """Reads one file once: hashed, and copied where it is wanted elsewhere; on the disk in the end."""
    path, digests = directory / file.path, integrity.Digests(file)
    buffer = bytearray(_BLOCK)
    view, size, synced = memoryview(buffer), 0, 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(_reading(path))
        content = stack.enter_context(path.open("rb", buffering=0))
        with volume.writing(file.path):
            output = None if target is None else stack.enter_context(_create(target / file.path))
        while count := content.readinto(buffer):
            digests.update(view[:count])
            size += count
            with volume.writing(file.path):
                if output is not None:
                    output.write(view[:count])
                    if size - synced >= _SYNC_BYTES:
                        os.fdatasync(output.fileno())
                        synced = size
            shown.add(count)
        with volume.writing(file.path):
            if output is not None:
                output.flush()
            os.fsync((output or content).fileno())
    if size != file.size:
        raise failures.Corrupt(f"{path} changed while it was read; import it while no process writes to it")
    if (file.sha256 or file.git_sha1) and not digests.right:
        raise failures.Corrupt(
            f"{path} has other bytes than its name in the cache of blobs says; fetch it again"
        )
    shown.finish_file()
    return marker.File(file.path, file.size, digests.sha256)


def _create(path: Path) -> io.BufferedWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def _is(directory: Path, other: Path) -> bool:
    return other.exists() and directory.samefile(other)


def _sound(directory: Path, files: Sequence[selection.RemoteFile], origin: Path) -> None:
    for problem in integrity.problems(directory, [file.path for file in files]):
        raise failures.Corrupt(f"{origin}: {problem}; fill it again, with all files of the commit")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise failures.Corrupt(
            f"{error.filename or path} can't be read: {error.strerror}; fill the directory again"
        ) from error
