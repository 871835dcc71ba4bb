"""Where things are in a cache of weights: pure paths, shared by everyone who reads or writes one.

<cache>/<organisation>--<name>/<commit>/               published, what an engine reads
<cache>/<organisation>--<name>/<commit>/.complete.json the marker, written last
<cache>/<organisation>--<name>/refs/<revision>         the commit that a branch or tag was resolved to
<cache>/<organisation>--<name>/.staging/<commit>.<id>/ what is being downloaded, one directory for each attempt
<cache>/<organisation>--<name>/.locks/<commit>
<cache>/.trash/                                        on its way out
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = ".complete.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")
# A staging directory, or the file beside it that says how far it is.
_STAGED = re.compile(r"([0-9a-f]{40})(\.[0-9a-f]{32})?(?:\.progress\.(?:json|tmp))?")


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
        attempt: sets a download apart from others of the same commit, which may run beside it.
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
        """Held while a process downloads or deletes."""
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
        """Directories that must not be used any more."""
        return self.root / ".trash"

    def home(self, repo: str) -> Path:
        """Directory of a repository."""
        return self.root / repo.replace("/", "--")

    def snapshot(self, repo: str, commit: str) -> Snapshot:
        """A commit's place, whether or not anything is there."""
        return Snapshot(repo, commit, self.home(repo))

    def ref(self, repo: str, revision: str) -> Path:
        """The file that records which commit a branch or tag was resolved to."""
        name = urllib.parse.quote(revision, safe="")
        # `..` is no file, and what is hidden is about to be written.
        return self.home(repo) / "refs" / (f"%2E{name[1:]}" if name.startswith(".") else name)

    def recorded(self, repo: str, revision: str) -> str | None:
        """The commit of a revision, without asking anybody; None if that was never recorded."""
        if is_commit(revision):
            return revision
        try:
            recorded = self.ref(repo, revision).read_text().strip()
        except (OSError, ValueError):
            return None
        return recorded if is_commit(recorded) else None

    def published(self) -> Iterator[Snapshot]:
        """Every commit that has a directory to read from, whole or not."""
        for home in self._homes():
            for entry in _entries(home):
                if is_commit(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield Snapshot(_repo(home), entry.name, home)

    def staged(self) -> Iterator[Snapshot]:
        """Every download that goes on or was left, each attempt on its own."""
        for home in self._homes():
            staging = home / ".staging"
            entries = [] if staging.is_symlink() else _entries(staging)
            found = (_STAGED.fullmatch(entry.name) for entry in entries)
            for commit, attempt in sorted({(name[1], name[2] or "") for name in found if name}):
                yield Snapshot(_repo(home), commit, home, attempt)

    def _homes(self) -> list[Path]:
        entries = _entries(self.root)
        return [
            Path(entry.path)
            for entry in entries
            if "--" in entry.name and entry.is_dir(follow_symlinks=False)
        ]


def _repo(home: Path) -> str:
    return home.name.replace("--", "/", 1)


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """What is in a directory; nothing where there is none, or it has just been removed."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
