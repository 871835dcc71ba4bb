"""Whether what is published still is what was published: asked by people, and by a job on a volume they doubt."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonllm.weights import failures, layout, marker, selection


@dataclass(frozen=True)
class Checked:
    """A published directory, looked at.

    Attributes:
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        directory: of the files.
        problems: sentences; none where it is whole.
    """

    repo: str
    commit: str
    directory: Path
    problems: tuple[str, ...]


def verify(
    cache: layout.Cache, repos: Collection[str] | None = None, *, full: bool = False
) -> Iterator[Checked]:
    """Looks at published directories, one after another, as it may take minutes each.

    Args:
        cache: to look at.
        repos: only these; None for all.
        full: read every byte and compare its SHA-256 instead of the size alone.
    """
    homes = None if repos is None else {cache.home(repo) for repo in repos}
    for snapshot in cache.published():
        if homes is None or snapshot.home in homes:
            problems = tuple(_problems(snapshot, full=full))
            yield Checked(snapshot.repo, snapshot.commit, snapshot.directory, problems)


def local_files(directory: Path) -> list[selection.RemoteFile]:
    """The files of a directory, as the Hub would list them.

    A link counts as what it points to; one that points to nothing has 0 bytes. A link into the blobs of
    huggingface_hub's cache is named after the digest that its content must have.
    """
    # No pattern of the selection looks any deeper, and a link that points upwards leads nowhere.
    paths = sorted((*directory.glob("*"), *directory.glob("*/*")))
    found = (_listed(directory, path) for path in paths)
    return [file for file in found if file is not None and file.path != layout.MARKER]


def _listed(directory: Path, path: Path) -> selection.RemoteFile | None:
    try:
        status = path.stat()
    except OSError:
        status = None
    linked = path.is_symlink()
    if not (linked if status is None else stat.S_ISREG(status.st_mode)):
        return None
    blob = Path(os.readlink(path)) if linked else Path()
    digest = blob.name if blob.parent.name == "blobs" else ""
    return selection.RemoteFile(
        path=str(path.relative_to(directory)),
        size=0 if status is None else status.st_size,
        git_sha1=digest if len(digest) == 40 else "",
        # Not None: a file without a known digest is not hashed twice.
        sha256=None if len(digest) == 40 else digest if len(digest) == 64 else "",
    )


def _problems(snapshot: layout.Snapshot, *, full: bool) -> Iterator[str]:
    directory = snapshot.directory
    declared = marker.declared(directory)
    if declared is None:
        yield "it has no marker that can be read, so it is never served; sync or import it again"
        return
    if not declared.belongs(snapshot):
        yield f"its marker is that of {declared.repo} at {declared.commit}"
    short = tuple(marker.wrong(directory, declared.files))
    yield from short
    yield from _foreign(directory, declared)
    if full and not short:
        yield from _changed(directory, declared)


def _foreign(directory: Path, declared: marker.Marker) -> Iterator[str]:
    """Files that an engine would load although they have never been checked."""
    if declared.patterns != declared.wanted.digest():
        # Another version chose the files, by patterns that are not known here.
        return
    known = {file.path for file in declared.files}
    try:
        chosen = selection.select(local_files(directory), declared.wanted, declared.repo).files
    except failures.NoSafetensors:
        return
    for file in chosen:
        if file.path not in known:
            yield f"{file.path} is there, but its marker does not know it"


def _changed(directory: Path, declared: marker.Marker) -> Iterator[str]:
    for file in declared.files:
        try:
            with (directory / file.path).open("rb", buffering=0) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            yield f"{file.path} can't be read: {error.strerror}"
            continue
        if digest != file.sha256:
            yield f"{file.path} has other bytes than it had: SHA-256 {digest} instead of {file.sha256}"
