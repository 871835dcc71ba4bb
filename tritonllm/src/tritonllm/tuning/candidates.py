"""Configurations as endpoint files: the file to tune with other values, its comments and other endpoints kept."""

from __future__ import annotations

import io
from collections.abc import Mapping, MutableMapping
from typing import Any

import ruamel.yaml

from tritonllm import api, simulated_args
from tritonllm.render import engine_args

Values = Mapping[tuple[str, ...], Any]
"""Values by the path of their field in `spec`; None leaves the field to its default."""


def text(original: str, name: str, values: Values) -> str:
    """The file with other values.

    Args:
        original: content of a valid endpoint file.
        name: of the endpoint that gets the values.
        values: to set. A field whose value is the same stays as it is written.
    """
    yaml = ruamel.yaml.YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    documents = [document for document in yaml.load_all(original) if document is not None]
    for document in documents:
        items = document["items"] if document.get("kind") == "List" else [document]
        for item in items:
            if item["metadata"]["name"] == name:
                for path, value in values.items():
                    _set(item["spec"], path, value)
    output = io.StringIO()
    yaml.dump_all(documents, output)
    return output.getvalue()


def current(endpoint: api.LLMEndpoint, path: tuple[str, ...], vllm_version: str | None) -> Any:
    """The value that a field has, or its default; None if the engine decides.

    Args:
        endpoint: that has it.
        path: of the field in `spec`.
        vllm_version: whose defaults count; None for the newest known.
    """
    *parents, name = path
    if parents == ["limits"]:
        return endpoint.spec.limits.model_dump(by_alias=True).get(name)
    args = endpoint.spec.engine.args
    return args[name] if name in args else default(endpoint.spec.engine, path, vllm_version)


def default(engine: api.Engine, path: tuple[str, ...], vllm_version: str | None) -> Any:
    """The value of a field that is left out; None if the engine decides.

    Args:
        engine: whose type counts.
        path: of the field in `spec`.
        vllm_version: whose defaults count; None for the newest known.
    """
    *parents, name = path
    if parents == ["limits"]:
        return api.Limits().model_dump(by_alias=True).get(name)
    if name == "max_num_seqs":
        return api.DEFAULT_MAX_NUM_SEQS
    if engine.type == "simulated":
        field = simulated_args.SimulatedArgs.model_fields.get(name)
        return None if field is None else field.default
    if engine.type != "vllm":
        return None
    known, _ = engine_args.table(vllm_version)
    return known["arguments"].get(name, {}).get("default")


def _set(spec: MutableMapping[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, name = path
    for parent in parents:
        if not isinstance(spec.get(parent), MutableMapping):
            spec[parent] = {}
        spec = spec[parent]
    if value is None:
        spec.pop(name, None)
    elif spec.get(name) != value or type(spec.get(name)) is not type(value):
        spec[name] = value
