"""What a repository or a directory says of its model: its small files, and the headers of its weights.

From the Hub, weights themselves are not downloaded: a header is the beginning of a file, and asked for as a range.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonllm.sizing import checkpoint
from tritonllm.weights import failures, selection
from tritonllm.weights.hub import Hub

# Most headers are shorter, so that one request is enough: huggingface_hub asks for the same.
_FIRST_BYTES = 100_000
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Description:
    """A model as its files describe it.

    Attributes:
        model: config and tensors.
        template: the chat template; None without one.
        commit: of a repository; None of a directory.
    """

    model: checkpoint.Checkpoint
    template: str | None
    commit: str | None = None


def of_repository(hub: Hub, repo: str, revision: str) -> Description:
    """Asks the Hub.

    Args:
        hub: to ask.
        repo: `organisation/name`.
        revision: branch, tag or commit.

    Raises:
        Failure: the repository can't be read, or holds no model that can be served.
    """
    hub.require_online(repo, revision)
    commit = hub.commit(repo, revision)

    def read(path: str, start: int, size: int) -> bytes:
        return hub.part(repo, commit, path, start, size)

    return _described(hub.files(repo, commit), repo, read, commit)


def of_directory(directory: Path) -> Description:
    """Reads a directory.

    Raises:
        Failure: it holds no model that can be served.
        OSError: a file can't be read.
    """
    files = [
        selection.RemoteFile(path.name, path.stat().st_size, "")
        for path in sorted(directory.iterdir())
        if path.is_file()
    ]

    def read(path: str, start: int, size: int) -> bytes:
        with (directory / path).open("rb") as file:
            file.seek(start)
            return file.read(size)

    return _described(files, str(directory), read, None)


Read = Callable[[str, int, int], bytes]
"""Bytes of a file: its path, the first byte, and how many at most."""


def _described(
    files: Iterable[selection.RemoteFile], place: str, read: Read, commit: str | None
) -> Description:
    listed = {file.path: file for file in files}
    endings = {name.rpartition(".")[2] for name in listed}
    if "gguf" in endings and not endings & {"safetensors", "bin", "pt", "pth"}:
        raise failures.NoSafetensors(
            f"{place} has its weights only as GGUF, which is not served; choose a repository with safetensors"
        )
    chosen = selection.select(listed.values(), selection.Wanted(), place)
    if "config.json" not in listed:
        raise failures.Corrupt(
            f"{place} has no config.json, so it can't be told what model it is; choose another one"
        )
    found: list[checkpoint.Tensor] = []
    for file in chosen.files:
        if file.path.endswith(".safetensors"):
            found += _tensors(file.path, place, read)
    config = _object("config.json", place, read, listed)
    return Description(
        checkpoint.Checkpoint(config, checkpoint.unique(found)), _template(place, read, listed), commit
    )


def _tensors(path: str, place: str, read: Read) -> list[checkpoint.Tensor]:
    try:
        beginning = read(path, 0, _FIRST_BYTES)
        length = checkpoint.header_bytes(beginning)
        header = beginning[8 : 8 + length]
        if len(header) < length:
            header += read(path, 8 + len(header), length - len(header))
        if len(header) < length:
            raise ValueError("ends within its safetensors header")
        return checkpoint.tensors(header)
    except ValueError as error:
        raise failures.Corrupt(f"{path} of {place} {error}") from None


def _template(place: str, read: Read, listed: dict[str, selection.RemoteFile]) -> str | None:
    if "chat_template.jinja" in listed:
        return read("chat_template.jinja", 0, _MOST_BYTES).decode(errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _object(name, place, read, listed).get("chat_template") if name in listed else None
        # Several, by name: one of them is the default.
        if isinstance(template, list):
            named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
            template = named.get("default")
        if isinstance(template, str):
            return template
    return None


def _object(path: str, place: str, read: Read, listed: dict[str, selection.RemoteFile]) -> dict[str, Any]:
    if listed[path].size > _MOST_BYTES:
        raise failures.Corrupt(f"{path} of {place} is larger than {_MOST_BYTES >> 20} MiB")
    try:
        found = json.loads(read(path, 0, _MOST_BYTES))
    except ValueError as error:
        raise failures.Corrupt(f"{path} of {place} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise failures.Corrupt(f"{path} of {place} must be a JSON object")
    return found
