"""Which weights may go: pure decisions, so that a table can say what happens to whom. In doubt nothing goes."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonllm.weights import inventory, layout

if TYPE_CHECKING:
    from tritonllm.weights.sync import Source


class Why(enum.StrEnum):
    """Why a directory stays or goes, as people read it."""

    BUSY = "a process uses it"
    NEEDED = "an endpoint needs it"
    RECENT = "it was used within the grace period"
    UNNEEDED = "no endpoint needs it"
    ABANDONED = "the download was abandoned"

    @property
    def goes(self) -> bool:
        """Whether this is a reason to remove something."""
        return self in (Why.UNNEEDED, Why.ABANDONED)


@dataclass(frozen=True)
class Needs:
    """What endpoints need of a cache.

    Attributes:
        commits: directories of repositories, with the commit.
        homes: directories of repositories whose commit is not known: all are needed.
        directories: that are served by their path.
    """

    commits: frozenset[tuple[Path, str]] = frozenset()
    homes: frozenset[Path] = frozenset()
    directories: frozenset[Path] = frozenset()

    def cover(self, snapshot: layout.Snapshot) -> bool:
        """Whether a commit is needed."""
        if snapshot.home in self.homes or (snapshot.home, snapshot.commit) in self.commits:
            return True
        published = snapshot.directory.resolve()
        return any(
            path.is_relative_to(published) or published.is_relative_to(path) for path in self.directories
        )


def needs(cache: layout.Cache, sources: Iterable[Source], paths: Iterable[Path] = ()) -> Needs:
    """What endpoints need.

    Args:
        cache: of the weights.
        sources: of endpoints that name a repository.
        paths: of endpoints that name a directory, absolute.
    """
    commits, homes = set(), set()
    for source in sources:
        commit = source.commit or cache.recorded(source.repo, source.revision)
        if commit is None:
            homes.add(cache.home(source.repo))
        else:
            commits.add((cache.home(source.repo), commit))
    directories = frozenset(path.resolve() for path in paths)
    return Needs(frozenset(commits), frozenset(homes), directories)


def decide(place: inventory.Place, needed: Needs, grace: datetime.timedelta, now: datetime.datetime) -> Why:
    """Whether a directory stays or goes.

    Args:
        place: the directory.
        needed: by endpoints.
        grace: how long unneeded weights are kept after their last use.
        now: with a time zone.
    """
    # What is complete is not downloaded any more.
    useful = not (place.staged and place.complete)
    if place.busy:
        return Why.BUSY
    if useful and needed.cover(place.snapshot):
        return Why.NEEDED
    # Where a clock was wrong and the last use is still to come, too.
    if now - place.used < grace:
        return Why.RECENT
    return Why.UNNEEDED if useful else Why.ABANDONED
