"""Where things are in a cache of weights: pure paths, shared by everyone who reads or writes one.

<cache>/<organisation>--<name>/<commit>/               published, what an engine reads
<cache>/<organisation>--<name>/<commit>/.complete.json the marker, written last
<cache>/<organisation>--<name>/refs/<revision>         the commit that a branch or tag was resolved to
<cache>/<organisation>--<name>/.staging/<commit>/      what is being downloaded
<cache>/<organisation>--<name>/.locks/<commit>
<cache>/.trash/                                        on its way out
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = ".complete.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Whether a revision already is a commit, and not the name of one."""
    return _COMMIT.fullmatch(revision) is not None


@dataclass(frozen=True)
class Snapshot:
    """One commit of one repository in a cache.

    Attributes:
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        home: directory of the repository in the cache.
        attempt: sets a download apart that runs beside another one of the same commit, where locks do not work.
    """

    repo: str
    commit: str
    home: Path
    attempt: str = ""

    @property
    def directory(self) -> Path:
        """What an engine reads."""
        return self.home / self.commit

    @property
    def staging(self) -> Path:
        """What is being downloaded, on the same file system."""
        return self.home / ".staging" / f"{self.commit}{self.attempt}"

    @property
    def files(self) -> Path:
        """Files that are whole: this directory becomes the published one."""
        return self.staging / "files"

    @property
    def parts(self) -> Path:
        """Files that are not whole yet."""
        return self.staging / "parts"

    @property
    def progress(self) -> Path:
        """Who wants to know how far a download is reads this file."""
        return self.staging.with_name(f"{self.staging.name}.progress.json")

    @property
    def lock(self) -> Path:
        """Held by whoever downloads or deletes."""
        return self.home / ".locks" / self.commit


@dataclass(frozen=True)
class Cache:
    """A directory of weights.

    Attributes:
        root: of the volume.
    """

    root: Path

    @property
    def trash(self) -> Path:
        """Directories that nobody may use any more."""
        return self.root / ".trash"

    def home(self, repo: str) -> Path:
        """Directory of a repository."""
        return self.root / repo.replace("/", "--")

    def snapshot(self, repo: str, commit: str) -> Snapshot:
        """A commit's place, whether or not anything is there."""
        return Snapshot(repo, commit, self.home(repo))

    def ref(self, repo: str, revision: str) -> Path:
        """The file that records which commit a branch or tag was resolved to."""
        return self.home(repo) / "refs" / urllib.parse.quote(revision, safe="")

    def recorded(self, repo: str, revision: str) -> str | None:
        """The commit of a revision, without asking anybody; None if that was never recorded."""
        if is_commit(revision):
            return revision
        try:
            recorded = self.ref(repo, revision).read_text().strip()
        except OSError:
            return None
        return recorded if is_commit(recorded) else None

    def snapshots(self) -> Iterator[Snapshot]:
        """Every commit that has a published directory, whole or not, or one that is being downloaded."""
        for home in sorted(self.root.glob("*--*")):
            organisation, _, name = home.name.partition("--")
            found = {path.name for path in (*home.iterdir(), *home.glob(".staging/*")) if path.is_dir()}
            for commit in sorted(filter(is_commit, found)):
                yield Snapshot(f"{organisation}/{name}", commit, home)
