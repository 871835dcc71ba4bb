"""What earlier releases know of an LLMEndpoint, so that no pod boots from what its image can't read. Pure."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from typing import Any

# By version: each object's fields, each text's permitted values. Written by tools/known_fields.py.
_KNOWN: dict[str, Any] = {
    file.name.removesuffix(".json"): json.loads(file.read_text())
    for file in importlib.resources.files("tritonllm_operator").joinpath("known_fields").iterdir()
}


def unknown(spec: Any, version: str) -> list[str]:
    """Paths of the fields that a release does not know, or whose value it does not know.

    Args:
        spec: of an endpoint, without fields that have their default value: a later default is not in its file.
        version: the release. One of which nothing is recorded, such as a later one, counts as knowing everything.
    """
    return list(_unknown(spec, _KNOWN.get(version), "spec"))


def _unknown(value: Any, known: Any, path: str) -> Iterator[str]:
    if known is None:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, known, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in known:
                yield from _unknown(inner, known[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif value not in known:
        yield path
