"""The arguments of vLLM's engine by version: names, types and bounds.

The tables are generated from vLLM's sources by `tools/vllm_args.py`. Pure.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import re
from typing import Any, Literal, NotRequired, TypedDict

from tritonllm import validation_errors
from tritonllm.engines.base import DEFAULT_MAX_NUM_SEQS, Args, Problem, unknown_argument

JsonType = Literal["array", "boolean", "integer", "null", "number", "object", "string"]


class Argument(TypedDict):
    """The values that an engine argument takes; without types, any."""

    types: list[JsonType]
    enum: NotRequired[list[str | int]]
    default: NotRequired[Any]


class Table(TypedDict):
    """The engine arguments of one version of vLLM."""

    version: str
    arguments: dict[str, Argument]


# What an endpoint's engine takes besides vLLM's `AsyncEngineArgs`; the names are those of options of `vllm serve`.
OWN: dict[str, Argument] = {
    "chat_template": {"default": None, "types": ["null", "string"]},
    "tool_call_parser": {"default": None, "types": ["null", "string"]},
}


@functools.cache
def _tables() -> dict[tuple[int, ...], Table]:
    directory = importlib.resources.files("tritonllm.engines") / "vllm_tables"
    tables: dict[tuple[int, ...], Table] = {}
    for file in directory.iterdir():
        version = file.name.removeprefix("vllm-").removesuffix(".json")
        tables[_numbers(version)] = {"version": version, "arguments": json.loads(file.read_text()) | OWN}
    return tables


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version: (0, 25, 1) of `0.25.1rc2+cu130`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    release = [int(part) for part in found[0].split(".")] if found else []
    return (*release, 0, 0, 0)[:3]


def _ordinal(numbers: tuple[int, ...]) -> int:
    """A number by which versions are compared, for the distance between two of them."""
    major, minor, patch = numbers
    return (major * 1000 + minor) * 1000 + patch


_WORDS: dict[JsonType, str] = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}

# Arguments that are set from elsewhere, or that would break a promise of the endpoint, and what to use instead.
_REFUSED = {
    "model": "is set from `spec.model`; use `spec.model.repo` or `spec.model.path`",
    "model_weights": "is set from `spec.model`; use `spec.model.repo` or `spec.model.path`",
    "revision": "is set from `spec.model`; use `spec.model.revision`",
    "code_revision": "must be that of the weights; use `spec.model.revision`",
    "tokenizer_revision": "must be that of the weights; use `spec.model.revision`",
    "served_model_name": "is the endpoint's name; use `metadata.name`",
    "download_dir": "has no effect: the weights are on the volume before the engine starts; remove it",
    "hf_token": "has no effect: the engine runs offline; give the token to the download of the weights",
    "disable_log_stats": "would disable the metrics that autoscaling needs; remove it",
    "enable_log_requests": "would log prompts; remove it",
    "max_num_queued_reqs": "is limited by the pipeline; use `spec.limits.maxQueuedRequests`",
    "max_num_queued_tokens": "is limited by the pipeline; use `spec.limits.maxQueuedRequests`",
    "skip_tokenizer_init": "would leave the engine without a tokenizer; remove it",
    "tokens_only": "would leave the engine without a detokenizer; remove it",
    "reasoning_parser_plugin": "runs Python code from a file, and has no effect here; remove it",
}
# vLLM also takes the name of a repository here, which the engine, being offline, could not download.
_PATHS = ("tokenizer", "hf_config_path", "spec_model")
_OFFLINE = "because the engine runs offline; put the files on the weights volume and give their directory"
# https://docs.vllm.ai/en/latest/features/speculative_decoding/: methods that draft without a model. They may stand in its place.
_NO_SECOND_MODEL = ("ngram", "[ngram]", "ngram_gpu", "suffix")
_SECOND_MODEL = ("model", "tokenizer")
_AT_LEAST_ONE = (
    "data_parallel_size",
    "max_num_batched_tokens",
    "max_num_seqs",
    "pipeline_parallel_size",
    "stream_interval",
    "tensor_parallel_size",
)


def check(args: Args, *, trust_remote_code: bool, version: str | None) -> list[Problem]:
    """Checks the arguments of an engine.

    Args:
        args: to check.
        trust_remote_code: whether `spec.model` permits code from the repository.
        version: the version of vLLM that will run, such as `0.32.0`; None if it is unknown.

    Returns:
        Problems in the order of the arguments; empty if the engine accepts them.
    """
    known, _ = table(version)
    found = [(name, _problem(name, value, known, trust_remote_code)) for name, value in args.items()]
    return [(f"spec.engine.args.{name}", message) for name, message in found if message is not None]


def table(version: str | None) -> tuple[Table, str | None]:
    """The table of arguments for a version of vLLM.

    Args:
        version: the version of vLLM; None if it is unknown.

    Returns:
        The table of that version and None, or the nearest one (the newest for None) and a warning.
    """
    tables = _tables()
    if version is None:
        newest = tables[max(tables)]
        return (
            newest,
            f"the version of vLLM is unknown; its arguments were checked as those of {newest['version']}",
        )
    requested = _numbers(version)
    if requested in tables:
        return tables[requested], None
    nearest = tables[min(tables, key=lambda known: abs(_ordinal(known) - _ordinal(requested)))]
    return (
        nearest,
        f"there is no table for vLLM {version}; its arguments were checked as those of {nearest['version']}",
    )


def _problem(name: str, value: Any, known: Table, trusted: bool) -> str | None:
    if name in _REFUSED:
        return _REFUSED[name]
    if name == "trust_remote_code":
        agreed = trusted and value is True
        return None if agreed else "is set from `spec.model`; use `spec.model.trustRemoteCode`"
    if name not in known["arguments"] or name.startswith("_"):
        public = [
            other for other in known["arguments"] if not other.startswith("_") and other not in _REFUSED
        ]
        return unknown_argument(name, f"vLLM {known['version']}", public)
    return _mismatch(known["arguments"][name], value) or _out_of_bounds(name, value)


def _mismatch(argument: Argument, value: Any) -> str | None:
    types, enum = argument["types"], argument.get("enum")
    kind = _type(value)
    if types and kind not in types and not (kind == "integer" and "number" in types):
        words = " or ".join(_WORDS[option] for option in types if option != "null" or types == ["null"])
        return f"must be {words}, got {validation_errors.show(value)}"
    if enum is not None and value is not None and value not in enum:
        return f"must be one of {', '.join(map(str, enum))}; got {validation_errors.show(value)}"
    return None


def _type(value: Any) -> JsonType | None:
    """The JSON type of a value from YAML; None for what JSON cannot express, such as a date or a NaN."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number" if math.isfinite(value) else None
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return None


def _out_of_bounds(name: str, value: Any) -> str | None:
    if name == "gpu_memory_utilization" and not 0 < value <= 1:
        return f"must be more than 0 and at most 1, got {validation_errors.show(value)}"
    if name == "max_num_seqs" and value is None:
        return f"must be an integer, got null; remove it for the default of {DEFAULT_MAX_NUM_SEQS}"
    if name in _AT_LEAST_ONE and value is not None and value < 1:
        return f"must be at least 1, got {validation_errors.show(value)}"
    if name == "chat_template" and value is not None and "{" not in value and not value.startswith("/"):
        return (
            "must be the text of a template, or the absolute path of a file in the pod; "
            f"got {validation_errors.show(value)}"
        )
    if name in _PATHS and _is_repository(value, *(_NO_SECOND_MODEL if name == "spec_model" else ())):
        return f"must be an absolute path, {_OFFLINE}; got {validation_errors.show(value)}"
    if name == "generation_config" and _is_repository(value, "auto", "vllm"):
        return f"must be auto, vllm or an absolute path, {_OFFLINE}; got {validation_errors.show(value)}"
    if name == "default_mm_loras" and any(map(_is_repository, (value or {}).values())):
        return f"must have absolute paths, {_OFFLINE}; got {validation_errors.show(value)}"
    if name == "speculative_config" and value is not None:
        return _second_model(value)
    if name == "runner" and value not in ("auto", "generate"):
        return f"must be auto or generate, because an endpoint generates text; got {validation_errors.show(value)}"
    return None


def _second_model(speculative: Any) -> str | None:
    for key in _SECOND_MODEL:
        given = speculative.get(key)
        if _is_repository(given, *_NO_SECOND_MODEL):
            return f"`{key}` must be an absolute path, {_OFFLINE}; got {validation_errors.show(given)}"
    return None


def _is_repository(given: Any, *words: str) -> bool:
    """Whether vLLM would look for a repository of this name: it is no path, and none of the words that mean something else."""
    return isinstance(given, str) and not given.startswith("/") and given not in words


def directories(args: Args) -> tuple[str, ...]:
    """The directories that arguments name: of a draft model, a tokenizer and others."""
    speculative, adapters = args.get("speculative_config"), args.get("default_mm_loras")
    named = [args.get(name) for name in (*_PATHS, "generation_config")]
    named += [speculative.get(key) for key in _SECOND_MODEL] if isinstance(speculative, dict) else []
    named += adapters.values() if isinstance(adapters, dict) else []
    return tuple(path for path in named if isinstance(path, str) and path.startswith("/"))
