"""Removes weights that no endpoint needs: out of everyone's sight by one rename each, and only then from the disk."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tritonllm.weights import inventory, layout, lock, retention


@dataclass(frozen=True)
class Verdict:
    """What becomes of a directory.

    Attributes:
        place: the directory.
        why: it stays or goes.
        problem: why it could not be removed although it should; empty where nothing went wrong.
    """

    place: inventory.Place
    why: retention.Why
    problem: str = ""

    @property
    def goes(self) -> bool:
        """Whether it is removed, or would be."""
        return self.why.goes and not self.problem


@dataclass(frozen=True)
class Collected:
    """What was done, or would be.

    Attributes:
        verdicts: on every directory.
        problems: sentences about what is out of sight but could not be removed from the volume.
    """

    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all that goes."""
        return sum(verdict.place.size for verdict in self.verdicts if verdict.goes)


def collect(
    cache: layout.Cache,
    needed: retention.Needs,
    grace: datetime.timedelta,
    now: datetime.datetime,
    *,
    dry_run: bool = False,
) -> Collected:
    """Removes what no endpoint needs and that has not been used for a while.

    Args:
        cache: to clean.
        needed: by endpoints.
        grace: how long unneeded weights are kept after their last use.
        now: with a time zone.
        dry_run: only say what would go.
    """
    verdicts = [
        Verdict(place, retention.decide(place, needed, grace, now)) for place in inventory.places(cache, now)
    ]
    if dry_run:
        return Collected(tuple(verdicts))
    done = [
        _put_aside(cache, verdict, needed, grace, now) if verdict.goes else verdict for verdict in verdicts
    ]
    return Collected(tuple(done), tuple(_empty(cache.trash)))


def _put_aside(
    cache: layout.Cache,
    verdict: Verdict,
    needed: retention.Needs,
    grace: datetime.timedelta,
    now: datetime.datetime,
) -> Verdict:
    """Takes a directory out of everyone's sight, unless something has changed since it was looked at."""
    snapshot, staged = verdict.place.snapshot, verdict.place.staged
    try:
        with _locked(snapshot) as alone:
            place = inventory.examine(snapshot, now, staged=staged, locked=not alone)
            if place is None:
                return verdict
            why = retention.decide(place, needed, grace, now)
            if why.goes:
                _move(cache, place, why)
            return Verdict(place, why)
    except OSError as error:
        return replace(verdict, problem=f"{verdict.place.path} can't be removed: {error.strerror}")


@contextlib.contextmanager
def _locked(snapshot: layout.Snapshot) -> Iterator[bool]:
    """Keeps downloads of a commit away; False where one is going on. True where there are no locks."""
    alone = True

    def wait() -> bool:
        nonlocal alone
        alone = False
        return False

    with lock.exclusive(snapshot.lock, wait):
        yield alone


def _move(cache: layout.Cache, place: inventory.Place, why: retention.Why) -> None:
    snapshot, path = place.snapshot, place.path
    if why is retention.Why.UNNEEDED:
        # First, or after a crash here the revision would lead to a commit that is gone until the next refresh.
        for revision in inventory.revisions(snapshot):
            cache.ref(snapshot.repo, revision).unlink(missing_ok=True)
    if place.staged:
        snapshot.progress.unlink(missing_ok=True)
        snapshot.progress.with_suffix(".tmp").unlink(missing_ok=True)
        if not path.exists():
            return
    if cache.trash.is_symlink():
        cache.trash.unlink()
    cache.trash.mkdir(exist_ok=True)
    _open_up(path)
    path.rename(cache.trash / f"{snapshot.commit}.{uuid.uuid4().hex}")


def _empty(trash: Path) -> Iterator[str]:
    """Unlinks everything, what was left by those before us, too; yields what can't be."""
    if trash.is_symlink() or not trash.is_dir():
        return
    for path in list(trash.iterdir()):
        try:
            _unlink(path)
        except OSError as error:
            yield f"{path} can't be removed: {error.strerror}; remove it by hand"


def _unlink(path: Path) -> None:
    """Removes a directory with all that is in it; others may do so at the same time."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    while path.exists():
        with contextlib.suppress(FileNotFoundError):
            _open_up(path)
            for parent, below, _ in os.walk(path):
                for name in below:
                    _open_up(Path(parent, name))
            shutil.rmtree(path)


def _open_up(directory: Path) -> None:
    """Lets the owner write to a directory: what came with an archive may be read-only."""
    with contextlib.suppress(OSError):
        # A link would change the directory that it points to.
        if not directory.is_symlink():
            directory.chmod(directory.stat().st_mode | stat.S_IRWXU)
