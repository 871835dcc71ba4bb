"""Reads what sizes depend on from a directory of weights: `config.json` and the headers of its safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tritonllm.sizing import checkpoint


def read(directory: Path) -> checkpoint.Checkpoint:
    """The model in a directory.

    Args:
        directory: with `config.json`.

    Raises:
        OSError: a file can't be read.
        ValueError: a file is not what its name says; the message names it.
    """
    usual = [
        path for path in sorted(directory.glob("*.safetensors")) if not path.name.startswith("consolidated")
    ]
    found: list[checkpoint.Tensor] = []
    for path in usual or sorted(directory.glob("*.safetensors")):
        try:
            found += checkpoint.tensors(header(path))
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None
    return checkpoint.Checkpoint(json_object(directory / "config.json"), checkpoint.unique(found))


def header(path: Path) -> bytes:
    """The header of a safetensors file.

    Raises:
        ValueError: it has none.
    """
    with path.open("rb") as file:
        length = checkpoint.header_bytes(file.read(8))
        content = file.read(length)
    if len(content) < length:
        raise ValueError("ends within its safetensors header")
    return content


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: it holds none; the message names the file.
    """
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must be a JSON object")
    return found
