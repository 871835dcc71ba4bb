"""Are an endpoint's engine arguments what its engine takes? Asked before anything takes a GPU.

The command line and the operator call `check` with the version of vLLM that will run. The tables are made
from vLLM's own sources by `tools/vllm_args.py`. Pure.
"""

from __future__ import annotations

import difflib
import importlib.resources
import json
import math
import re
from typing import Any, Literal, NotRequired, TypedDict

import pydantic

from tritonllm import api, simulated_args, validation_errors

JsonType = Literal["array", "boolean", "integer", "null", "number", "object", "string"]
Problem = tuple[str, str]
"""Where it is, such as `spec.engine.args.max_model_len`, and what is wrong with it."""


class Argument(TypedDict):
    """What an engine argument may be; no types: anything."""

    types: list[JsonType]
    enum: NotRequired[list[str | int]]
    default: NotRequired[Any]


class Table(TypedDict):
    """The engine arguments of one version of vLLM."""

    version: str
    arguments: dict[str, Argument]


def _load() -> dict[tuple[int, ...], Table]:
    directory = importlib.resources.files("tritonllm.render") / "engine_tables"
    tables: dict[tuple[int, ...], Table] = {}
    for file in directory.iterdir():
        version = file.name.removeprefix("vllm-").removesuffix(".json")
        tables[_numbers(version)] = {"version": version, "arguments": json.loads(file.read_text())}
    return tables


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version's release, without what follows as in `0.25.1rc2+cu130`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    release = [int(part) for part in found[0].split(".")] if found else []
    return (*release, 0, 0, 0)[:3]


def _place(numbers: tuple[int, ...]) -> int:
    """Where a version stands in the row of all versions."""
    major, minor, patch = numbers
    return (major * 1000 + minor) * 1000 + patch


_TABLES = _load()

_WORDS: dict[JsonType, str] = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "a text",
}

# Arguments that the system sets itself or that would break a promise it makes, and what to do instead.
_REFUSED = {
    "model": "is set from `spec.model`; write `spec.model.repo` or `spec.model.path`",
    "model_weights": "is set from `spec.model`; write `spec.model.repo` or `spec.model.path`",
    "revision": "is set from `spec.model`; write `spec.model.revision`",
    "code_revision": "can't differ from the weights' own; write `spec.model.revision`",
    "tokenizer_revision": "can't differ from the weights' own; write `spec.model.revision`",
    "served_model_name": "is the endpoint's name; write `metadata.name`",
    "download_dir": "has no effect: weights are there before the engine starts; remove it",
    "hf_token": "has no effect: an engine downloads nothing; give the token to the download of the weights",
    "disable_log_stats": "would blind the metrics and the autoscaling; remove it",
    "enable_log_requests": "would write prompts to the log; remove it",
    "max_num_queued_reqs": "is the pipeline's to limit; write `spec.limits.maxQueuedRequests`",
    "max_num_queued_tokens": "is the pipeline's to limit; write `spec.limits.maxQueuedRequests`",
    "skip_tokenizer_init": "would leave nothing to turn text into tokens; remove it",
    "tokens_only": "would leave nothing to turn tokens into text; remove it",
    "reasoning_parser_plugin": "runs a file of Python code, and is of no use here; remove it",
}
# Where vLLM would also take the name of a repository, which it could not download.
_PATHS = ("tokenizer", "hf_config_path")
_AT_LEAST_ONE = (
    "data_parallel_size",
    "max_num_batched_tokens",
    "max_num_seqs",
    "pipeline_parallel_size",
    "stream_interval",
    "tensor_parallel_size",
)


def check(engine: api.Engine, model: api.Model | None, version: str | None) -> list[Problem]:
    """What is wrong with an endpoint's engine arguments.

    Args:
        engine: the engine and its arguments.
        model: the weights; None where the engine has none.
        version: of the vLLM that will run, such as `0.32.0`; None where nobody knows.

    Returns:
        Problems in the order of the arguments; none if the engine takes them.
    """
    if engine.type == "simulated":
        return _check_simulated(engine.args)
    known, _ = table(version)
    found = [(name, _problem(name, value, known, model)) for name, value in engine.args.items()]
    return [(f"spec.engine.args.{name}", message) for name, message in found if message is not None]


def table(version: str | None) -> tuple[Table, str | None]:
    """The table to check a vLLM's arguments against.

    Args:
        version: of vLLM; None where nobody knows.

    Returns:
        Its own table and None, or the nearest one (the newest for None) and a warning to show.
    """
    if version is None:
        newest = _TABLES[max(_TABLES)]
        return (
            newest,
            f"the version of vLLM is not known; its arguments were checked as those of {newest['version']}",
        )
    wanted = _numbers(version)
    if wanted in _TABLES:
        return _TABLES[wanted], None
    nearest = _TABLES[min(_TABLES, key=lambda has: abs(_place(has) - _place(wanted)))]
    return (
        nearest,
        f"vLLM {version} has no table here; its arguments were checked as those of {nearest['version']}",
    )


def _check_simulated(args: dict[str, Any]) -> list[Problem]:
    arguments = simulated_args.SimulatedArgs
    unknown = [name for name in args if name not in arguments.model_fields]
    found = [(name, _unknown(name, "the simulated engine", list(arguments.model_fields))) for name in unknown]
    try:
        arguments.model_validate({name: value for name, value in args.items() if name not in unknown})
    except pydantic.ValidationError as error:
        found += validation_errors.problems(error, arguments)
    return [(f"spec.engine.args.{name}", message) for name, message in found]


def _problem(name: str, value: Any, known: Table, model: api.Model | None) -> str | None:
    if name in _REFUSED:
        return _REFUSED[name]
    if name == "trust_remote_code":
        agreed = model is not None and model.trust_remote_code and value is True
        return None if agreed else "is set from `spec.model`; write `spec.model.trustRemoteCode`"
    if name not in known["arguments"] or name.startswith("_"):
        public = [
            other for other in known["arguments"] if not other.startswith("_") and other not in _REFUSED
        ]
        return _unknown(name, f"vLLM {known['version']}", public)
    return _mismatch(known["arguments"][name], value) or _out_of_bounds(name, value)


def _unknown(name: str, engine: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{engine} has no argument `{name}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _mismatch(argument: Argument, value: Any) -> str | None:
    types, enum = argument["types"], argument.get("enum")
    kind = _type(value)
    if types and kind not in types and not (kind == "integer" and "number" in types):
        words = " or ".join(_WORDS[option] for option in types if option != "null" or types == ["null"])
        return f"must be {words}, not {_show(value)}"
    if enum is not None and value is not None and value not in enum:
        return f"must be one of {', '.join(map(str, enum))}; not {_show(value)}"
    return None


def _type(value: Any) -> JsonType | None:
    """The JSON type of a value from YAML; None for what JSON can't say, such as a date or a NaN."""
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
        return f"must be more than 0 and at most 1, not {_show(value)}"
    if name == "max_num_seqs" and value is None:
        return f"must be a whole number, not null; remove it for the default of {api.DEFAULT_MAX_NUM_SEQS}"
    if name in _AT_LEAST_ONE and value is not None and value < 1:
        return f"must be at least 1, not {_show(value)}"
    if name in _PATHS and value is not None and not value.startswith("/"):
        return f"must be an absolute path, because an engine downloads nothing; not {_show(value)}"
    if name == "runner" and value not in ("auto", "generate"):
        return f"must be auto or generate, because an endpoint generates text; not {_show(value)}"
    return None


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
