"""The marker of a published directory: without a valid one, nothing is ever served from it.

It is written last, after everything it speaks of is on the disk. So it proves that a download ended, which the
existence of a directory does not, and it can't outlive the volume, which a note elsewhere can.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritonllm.weights import layout, selection, volume

SCHEMA = 1


def _version() -> str:
    # Takes longer to import than to find that all is complete, for which it is not needed.
    import importlib.metadata

    return importlib.metadata.version("tritonllm")


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a published directory.

    Attributes:
        path: inside the directory.
        size: bytes.
        sha256: of the content.
    """

    path: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Marker:
    """What a published directory holds.

    Attributes:
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        wanted: what was allowed when the files were chosen.
        format: of the weights.
        files: all of them.
        patterns: digest of the patterns that chose the files.
        tool: version of tritonllm that wrote it.
        completed: when, in ISO 8601.
    """

    repo: str
    commit: str
    wanted: selection.Wanted
    format: selection.Format
    files: tuple[File, ...]
    patterns: str
    tool: str = dataclasses.field(default_factory=_version)
    completed: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def belongs(self, snapshot: layout.Snapshot) -> bool:
        """Whether it is about this commit of this repository."""
        home = layout.Cache(snapshot.home.parent).home(self.repo)
        return (home, self.commit) == (snapshot.home, snapshot.commit)

    def serves(self, wanted: selection.Wanted) -> bool:
        """Whether the directory has all that is wanted and nothing that is not allowed.

        Which patterns chose the files does not matter here: a newer version may choose others, and that is no
        reason to refuse what was served until now.
        """
        return (
            wanted.adapter == self.wanted.adapter
            and wanted.remote_code <= self.wanted.remote_code
            and (self.format == "safetensors" or wanted.allow_pickle)
            and self.has_layout(wanted)
        )

    def has_layout(self, wanted: selection.Wanted) -> bool:
        """Whether the weights are in the layout that is wanted."""
        return self.wanted.layout in (wanted.layout, "both")


def write(directory: Path, marker: Marker) -> None:
    """Declares a directory complete. Everything in it must be on the disk already."""
    content = {"schema": SCHEMA, **dataclasses.asdict(marker)}
    if not marker.wanted.adapter:
        # Versions that know no adapters read the markers of models.
        del content["wanted"]["adapter"]
    if marker.wanted.layout == "hf":
        # So do versions that know one layout.
        del content["wanted"]["layout"]
    volume.replace(directory / layout.MARKER, json.dumps(content, indent=1).encode() + b"\n")


def read(directory: Path) -> Marker | None:
    """The marker of a directory that is what it says; None where there is none, or it is not.

    Looks at the size of every file, which takes a microsecond each and finds what a cut or a full disk leaves.
    """
    marker = declared(directory)
    return None if marker is None or any(wrong(directory, marker.files)) else marker


def of(snapshot: layout.Snapshot, directory: Path) -> Marker | None:
    """The marker of a directory that is whole and holds this commit; None for any other."""
    marker = read(directory)
    return marker if marker is not None and marker.belongs(snapshot) else None


def declared(directory: Path) -> Marker | None:
    """What the marker of a directory says, true or not; None where there is none that can be read."""
    try:
        return _parse(json.loads((directory / layout.MARKER).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def wrong(directory: Path, files: Iterable[File]) -> Iterable[str]:
    """Sentences about files that are missing or of another size."""
    for file in files:
        try:
            size = os.stat(directory / file.path).st_size
        except OSError as error:
            yield f"{file.path} can't be read: {error.strerror}"
            continue
        if size != file.size:
            yield f"{file.path} has {size} bytes instead of {file.size}"


def touch(directory: Path) -> None:
    """Notes that a directory was used, where the volume can be written."""
    try:
        os.utime(directory / layout.MARKER)
    except OSError:
        # A volume that is mounted read-only is not cleaned up either.
        return


def used(directory: Path) -> datetime.datetime | None:
    """When a directory was used last; None where it has no marker."""
    try:
        seconds = os.stat(directory / layout.MARKER).st_mtime
    except OSError:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _parse(content: dict[str, Any]) -> Marker:
    if content.pop("schema") != SCHEMA:
        raise ValueError("a marker of another schema")
    content["wanted"] = selection.Wanted(**content["wanted"])
    content["files"] = tuple(File(**file) for file in content["files"])
    marker = Marker(**content)
    texts = (marker.repo, marker.commit, *(file.path for file in marker.files))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name that is no text")
    return marker
