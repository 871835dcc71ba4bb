"""The files of a LoRA adapter: where they are, and whether they can belong to the model. Reads headers only.

vLLM copies an adapter's matrices into buffers of the model's size and does not complain of smaller ones, so an adapter of
another model would answer nonsense. Therefore the shapes are compared here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pydantic

from tritonllm.weights import integrity, layout, marker, selection

CONFIG, WEIGHTS = selection.ADAPTER

# PEFT's names, such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
_NAME = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight$")
# What is in front of the layers depends on the version of transformers that saved the model.
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(.+)$")
_LISTED = 3
# Others are packed, so that their shapes are not those of the matrices.
_PLAIN = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name."""


class Missing(Exception):
    """The files are not there yet; the text says which."""


class Refused(Exception):
    """The files can't be served; the text says why."""


class Adapter(pydantic.BaseModel):
    """An adapter that a pipeline wants, as in its configuration: exactly one of `repo` and `path` is set."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    repo: str | None = None
    path: str | None = None
    revision: str = "main"
    commit: str | None = None


class Located(NamedTuple):
    """Complete files of an adapter.

    Attributes:
        directory: of the files.
        commit: of the repository; None if they come from a path.
    """

    directory: Path
    commit: str | None


def locate(adapter: Adapter, weights: Path) -> Located:
    """Finds the files of an adapter.

    Args:
        adapter: which.
        weights: root of the weights volume.

    Raises:
        Missing: they are not there, or not complete.
    """
    if adapter.path is not None:
        directory = weights / adapter.path
        for name in selection.ADAPTER:
            if not (directory / name).is_file():
                raise Missing(f"{directory} has no {name}; correct `path`, or save the adapter with PEFT")
        return Located(directory, None)
    assert adapter.repo is not None
    cache = layout.Cache(weights)
    commit = adapter.commit or cache.recorded(adapter.repo, adapter.revision)
    if commit is None:
        raise Missing(f"{adapter.repo} at {adapter.revision} has not been downloaded to {weights}")
    snapshot = cache.snapshot(adapter.repo, commit)
    found = marker.of(snapshot, snapshot.directory)
    if found is None or not found.serves(selection.Wanted(adapter=True)):
        raise Missing(
            f"{adapter.repo} at {commit} has not been downloaded completely to {snapshot.directory}"
        )
    return Located(snapshot.directory, commit)


def check(directory: Path, model: Path) -> None:
    """Compares an adapter with the model.

    Args:
        directory: of the adapter.
        model: directory of the model.

    Raises:
        Refused: the adapter is corrupt, or of another model.
    """
    for problem in integrity.problems(directory, [WEIGHTS]):
        raise Refused(problem)
    try:
        config = json.loads((directory / CONFIG).read_bytes())
        base = str(config["base_model_name_or_path"]) if config.get("base_model_name_or_path") else ""
        kind = str(config.get("peft_type", "LORA"))
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(f"{CONFIG} can't be read: {error}") from None
    if kind != "LORA":
        raise Refused(f"it is an adapter of type {kind}; only LORA is supported")
    shapes = _shapes(directory / WEIGHTS)
    known: dict[str, tuple[int, ...]] = {}
    for file in sorted(model.glob("*.safetensors")):
        known |= _shapes(file)
    found = mismatches(shapes, known)
    if found:
        of = f"; it was trained for {base}" if base else ""
        more = f", and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise Refused(f"it does not fit the model: {'; '.join(found[:_LISTED])}{more}{of}")


def mismatches(adapter: Shapes, model: Shapes) -> list[str]:
    """What shows that an adapter belongs to another model; pure.

    A module of which the model's files have no plain matrix, such as a quantized one, is left to vLLM.

    Args:
        adapter: its tensors.
        model: the model's.

    Returns:
        One sentence for each module that does not fit.
    """
    if not adapter:
        return [f"{WEIGHTS} has no tensors"]
    # Several, because a model that also reads images has layers of the same name for them.
    weights: defaultdict[tuple[int | None, str], set[tuple[int, ...]]] = defaultdict(set)
    for name, shape in model.items():
        if name.endswith(".weight") and len(shape) == 2:
            weights[_place(name.removesuffix(".weight"))].add(shape)
    layers = {number for number, _ in weights if number is not None}
    problems: dict[str, str] = {}
    for name, shape in adapter.items():
        match = _NAME.match(name)
        if match is None or len(shape) != 2:
            continue
        module, side = match.groups()
        number, rest = _place(module)
        if number is not None and layers and number > max(layers):
            problems.setdefault(module, f"{module}: the model has {max(layers) + 1} layers")
            continue
        found = weights.get((number, rest))
        # A is rank × in and B is out × rank. The model's matrix is out × in, in some models in × out.
        has = shape[1] if side == "A" else shape[0]
        if found and not any(has in base for base in found):
            sizes = " or ".join(sorted(f"{base[0]} × {base[1]}" for base in found))
            way = "inputs" if side == "A" else "outputs"
            problems.setdefault(module, f"{module} has {has} {way}, and the model's matrix is {sizes}")
    return list(problems.values())


def _place(module: str) -> tuple[int | None, str]:
    """The layer of a module and its name inside of it; or no layer and its name."""
    match = _LAYER.search(module)
    return (int(match[1]), match[2]) if match else (None, module.rpartition(".")[2])


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The unpacked tensors of a safetensors file (https://huggingface.co/docs/safetensors/index#format)."""
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(content.read(length))
        return {
            name: tuple(int(size) for size in entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] in _PLAIN
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{file} can't be read: {error}") from None
