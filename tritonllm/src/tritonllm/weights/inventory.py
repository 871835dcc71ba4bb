"""What a cache holds and what becomes of it at this moment: what `list` shows and `gc` decides upon."""

from __future__ import annotations

import datetime
import json
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tritonllm.weights import layout, lock, marker, progress

# A download writes how far it is every second; one that has not for so long does not run any more.
_SILENT = datetime.timedelta(seconds=60)


@dataclass(frozen=True)
class Place:
    """A directory in a cache that is ours.

    Attributes:
        snapshot: whose.
        staged: it is being downloaded to, or was; not published.
        complete: the published directory of this commit has a valid marker.
        size: bytes on the volume.
        files: how many, the marker left out.
        used: last; where that was never noted, changed last.
        busy: a process serves from it, or downloads this commit.
        progress: of the download that goes on here.
    """

    snapshot: layout.Snapshot
    staged: bool
    complete: bool
    size: int
    files: int
    used: datetime.datetime
    busy: bool
    progress: progress.State | None = None

    @property
    def path(self) -> Path:
        """Of the directory."""
        return self.snapshot.staging if self.staged else self.snapshot.directory


@dataclass(frozen=True)
class Entry:
    """A commit in a cache, as a person wants to see it.

    Attributes:
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        revisions: branches and tags that were resolved to it.
        state: only what is complete is served.
        size: bytes on the volume.
        files: how many.
        used: last.
        in_use: a process serves from it, or downloads it, as far as this file system tells.
        progress: of the download that goes on.
    """

    repo: str
    commit: str
    revisions: tuple[str, ...]
    state: Literal["complete", "downloading", "incomplete"]
    size: int
    files: int
    used: datetime.datetime
    in_use: bool
    progress: progress.State | None


def entries(cache: layout.Cache, now: datetime.datetime) -> list[Entry]:
    """Every commit, by name.

    Args:
        cache: to look at.
        now: with a time zone.
    """
    found: dict[tuple[Path, str], list[Place]] = {}
    for place in places(cache, now):
        found.setdefault((place.snapshot.home, place.snapshot.commit), []).append(place)
    return [_entry(found[key]) for key in sorted(found)]


def places(cache: layout.Cache, now: datetime.datetime) -> Iterator[Place]:
    """Every directory that is ours: the published ones, and those that were or are downloaded to.

    Args:
        cache: to look at.
        now: with a time zone.
    """
    for staged, snapshots in ((False, cache.published()), (True, cache.staged())):
        for snapshot in snapshots:
            place = examine(snapshot, now, staged=staged)
            if place is not None:
                yield place


def examine(
    snapshot: layout.Snapshot, now: datetime.datetime, *, staged: bool, locked: bool | None = None
) -> Place | None:
    """Looks at one directory; None where it is gone.

    Args:
        snapshot: whose.
        now: with a time zone.
        staged: look at the staging directory instead of the published one.
        locked: whether another process downloads this commit; None to find out.
    """
    measured = _measure(snapshot, staged=staged)
    if measured is None:
        return None
    directory = snapshot.staging if staged else snapshot.directory
    size, files, changed = measured
    complete = marker.of(snapshot, snapshot.directory) is not None
    download = _download(snapshot, now) if staged else None
    if locked is None:
        locked = _used(snapshot.lock)
    busy = download is not None or locked or _used(directory)
    noted = marker.used(directory) if complete and not staged else None
    used = noted or datetime.datetime.fromtimestamp(changed, datetime.UTC)
    return Place(snapshot, staged, complete, size, files, used, busy, download)


def revisions(snapshot: layout.Snapshot) -> tuple[str, ...]:
    """The branches and tags that were resolved to a commit."""
    cache = layout.Cache(snapshot.home.parent)
    names = (urllib.parse.unquote(path.name) for path in (snapshot.home / "refs").glob("*"))
    return tuple(sorted(name for name in names if cache.recorded(snapshot.repo, name) == snapshot.commit))


def _entry(found: list[Place]) -> Entry:
    first = found[0]
    running = any(place.staged and place.busy for place in found)
    return Entry(
        repo=first.snapshot.repo,
        commit=first.snapshot.commit,
        revisions=revisions(first.snapshot),
        state="complete" if first.complete else "downloading" if running else "incomplete",
        size=sum(place.size for place in found),
        files=sum(place.files for place in found),
        used=max(place.used for place in found),
        in_use=any(place.busy for place in found),
        progress=next((place.progress for place in found if place.progress), None),
    )


def _download(snapshot: layout.Snapshot, now: datetime.datetime) -> progress.State | None:
    """How far the download is that writes here; None where none does."""
    try:
        changed = os.stat(snapshot.progress).st_mtime
        if abs(now - datetime.datetime.fromtimestamp(changed, datetime.UTC)) > _SILENT:
            return None
        return progress.State(**json.loads(snapshot.progress.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _used(path: Path) -> bool:
    try:
        return lock.is_used(path)
    except OSError:
        # What can't be looked at is not for us to touch.
        return True


def _measure(snapshot: layout.Snapshot, *, staged: bool) -> tuple[int, int, float] | None:
    """Bytes, number of files and the latest change; no link is followed, and what vanishes does not count."""
    directory = snapshot.staging if staged else snapshot.directory
    directories, files = [directory], []
    if directory.is_symlink():
        return None
    for parent, below, names in os.walk(directory):
        directories += [Path(parent, name) for name in below]
        files += [Path(parent, name) for name in names if name != layout.MARKER]
    beside = [snapshot.progress] if staged else []
    size, latest = 0, 0.0
    for number, path in enumerate((*files, *directories, *beside)):
        try:
            found = os.lstat(path)
        except OSError:
            continue
        size += found.st_size if number < len(files) else 0
        # When it got here: a copy may have taken over the age of its original.
        latest = max(latest, found.st_ctime)
    return (size, len(files), latest) if latest else None
