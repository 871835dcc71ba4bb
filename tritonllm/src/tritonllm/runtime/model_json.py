"""What `1/model.json` of an engine's model says beside the arguments of its type; `render.engine_arguments` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class ModelJson(NamedTuple):
    """The content, taken apart.

    Attributes:
        weights: directory of the weights.
        trust_remote_code: whether Python code in that directory is run.
        prompt: `spec.prompt` as it was given; empty where the engine's type does not add it.
        args: the rest: `spec.engine.args`.
    """

    weights: str
    trust_remote_code: bool
    prompt: dict[str, Any]
    args: dict[str, Any]


def read(content: Mapping[str, Any]) -> ModelJson:
    """Takes the content of a type with weights apart.

    Args:
        content: of `model.json`.
    """
    args = dict(content)
    return ModelJson(args.pop("model"), args.pop("trust_remote_code", False), args.pop("prompt", {}), args)
