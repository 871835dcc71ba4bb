"""Whether bytes are those of the commit, and whether they can be a model at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from tritonllm.weights import selection

_BLOCK = 4 << 20
# The format's own bound: https://github.com/huggingface/safetensors (MAX_HEADER_SIZE).
_LONGEST_HEADER = 100_000_000
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class _Hash(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digests:
    """Digests of one file's content, taken while it is written.

    Args:
        file: whose content; a large file is known by its SHA-256, a small one by git's object id.
    """

    def __init__(self, file: selection.RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._git: _Hash | None = None
        if file.sha256 is None:
            # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
            self._git = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes."""
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    def read(self, path: Path) -> int:
        """Takes the content of a file; returns its number of bytes."""
        buffer = bytearray(_BLOCK)
        view = memoryview(buffer)
        size = 0
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                self.update(view[:count])
                size += count
        return size

    @property
    def sha256(self) -> str:
        """Of what was taken so far."""
        return self._sha256.hexdigest()

    @property
    def right(self) -> bool:
        """Whether what was taken is the content that the commit has."""
        if self._git is not None:
            return self._git.hexdigest() == self._file.git_sha1
        return self._sha256.hexdigest() == self._file.sha256


def problems(directory: Path, names: Iterable[str]) -> Iterator[str]:
    """What can be found without loading: a safetensors header that makes no sense, a shard that is missing.

    Args:
        directory: of the files.
        names: of the files in it.
    """
    present = set(names)
    yield from _headers(directory, present)
    yield from _shards(directory, present)


def _headers(directory: Path, names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        if not name.endswith(".safetensors"):
            continue
        path = directory / name
        size = os.stat(path).st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # https://huggingface.co/docs/safetensors/index#format
            if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
                yield f"{name} is no safetensors file"
                continue
            try:
                header = json.loads(file.read(length))
                ends = [
                    int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"
                ]
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                yield f"{name} has no readable safetensors header"
                continue
        if max(ends, default=0) != size - 8 - length:
            yield f"{name} has {size - 8 - length} bytes of tensors where its header wants {max(ends, default=0)}"


def _shards(directory: Path, names: set[str]) -> Iterator[str]:
    for index in _INDEXES:
        if index not in names:
            continue
        try:
            needed = set(map(str, json.loads((directory / index).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            yield f"{index} has no readable weight_map"
            continue
        missing = sorted(needed - names)
        if missing:
            yield f"{index} names {missing[0]}, which is not there ({len(missing)} of {len(needed)} files missing)"
