"""The staging directory of one download: begins with what an earlier one left, ends as the published directory.

Every download has one of its own. What decides whether an earlier one still runs is what it writes, not a lock:
where locks do nothing, two processes must not write to the same file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import shutil
import time
from collections.abc import Collection

from tritonllm.weights import layout, marker, volume

# A download writes how far it is every second.
_SILENT_SECONDS = 3.0


def beats(snapshot: layout.Snapshot) -> dict[str, bytes]:
    """What the downloads of a commit wrote last, by attempt; one that lives writes something else soon."""
    found: dict[str, bytes] = {}
    for other in layout.Cache(snapshot.home.parent).staged():
        if (other.home, other.commit) == (snapshot.home, snapshot.commit):
            found[other.attempt] = b""
            with contextlib.suppress(OSError):
                found[other.attempt] = other.progress.read_bytes()
    return found


def inherit(place: layout.Snapshot) -> None:
    """Takes over the largest of the downloads that do not run any more, and removes the others.

    Args:
        place: of a download that has not begun.
    """
    place.staging.parent.mkdir(parents=True, exist_ok=True)
    before = beats(place)
    if not before:
        return
    time.sleep(_SILENT_SECONDS)
    after = beats(place)
    left = [
        dataclasses.replace(place, attempt=attempt)
        for attempt, beat in before.items()
        if after.get(attempt) == beat
    ]
    for other in sorted(left, key=_size, reverse=True):
        # Only one can rename it; for the next one it is gone.
        with contextlib.suppress(FileNotFoundError):
            if place.staging.exists():
                volume.discard(other.staging, layout.Cache(place.home.parent).trash)
            else:
                other.staging.rename(place.staging)
        other.progress.unlink(missing_ok=True)
        other.progress.with_suffix(".tmp").unlink(missing_ok=True)


def prepare(place: layout.Snapshot, wanted: Collection[str], *, adopt: bool) -> None:
    """Makes the directories, and keeps of what is there only what is of use.

    Args:
        place: of the download.
        wanted: paths of the files to come.
        adopt: take back a published directory whose marker does not hold: most of its files may be right.
    """
    place.files.mkdir(parents=True, exist_ok=True)
    place.parts.mkdir(exist_ok=True)
    if adopt and place.directory.is_dir():
        if any(place.files.iterdir()):
            volume.discard(place.directory, layout.Cache(place.home.parent).trash)
        else:
            place.files.rmdir()
            place.directory.rename(place.files)
            if marker.of(place, place.files) is not None:
                # Another process has published it between our check and the rename.
                place.files.rename(place.directory)
                place.files.mkdir()
    for root in (place.files, place.parts):
        for path in sorted(root.rglob("*"), reverse=True):
            if not path.is_dir() and str(path.relative_to(root)) not in wanted:
                path.unlink()


def publish(place: layout.Snapshot, declared: marker.Marker, *, extend: bool) -> None:
    """Makes what is staged the published directory, or a part of it, and marks it.

    Args:
        place: of the download, with all files whole and on the disk.
        declared: what the directory holds then.
        extend: it is published already; files are added to it.
    """
    files = [path for path in place.files.rglob("*") if path.is_file()]
    volume.sync_tree(place.files)
    # In the directory before it gets its name, so that no reader ever sees one without.
    marker.write(place.files, declared)
    if extend:
        for path in files:
            target = place.directory / path.relative_to(place.files)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        volume.sync_tree(place.directory)
        (place.files / layout.MARKER).replace(place.directory / layout.MARKER)
        volume.sync(place.directory)
    else:
        try:
            place.files.rename(place.directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Another process was faster. What is there stays where it is whole, else it makes room.
            if marker.of(place, place.directory) is None:
                volume.discard(place.directory, layout.Cache(place.home.parent).trash)
                place.files.rename(place.directory)
        volume.sync(place.home)
    shutil.rmtree(place.staging, ignore_errors=True)


def size(place: layout.Snapshot) -> int:
    """Bytes of what is staged."""
    return sum(path.stat().st_size for path in place.staging.rglob("*") if path.is_file())


def _size(place: layout.Snapshot) -> int:
    # What is being removed has no size.
    with contextlib.suppress(OSError):
        return size(place)
    return 0
