"""Every name of vLLM that the runtime uses, with what it must have; and a recorder of what a version has.

    python tools/vllm_names.py WHEEL_OR_DIRECTORY…

Reads sources as text, as `vllm_args.py` does, so that versions that can't run here are recorded too. A recording maps
`module:name` to the members it was asked for: the parameters of a function as Python text with every default as None,
"attribute" for a field or a value, null for what that version lacks.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import vllm_args

from tritonllm import sampling
from tritonllm.runtime import vllm_chat

RECORDINGS = Path(__file__).parent.parent / "tritonllm" / "tests" / "unit" / "runtime" / "vllm_names"
ATTRIBUTE = "attribute"
# The member that stands for calling the name itself, where it is a function.
ITSELF = "()"


@dataclasses.dataclass(frozen=True)
class Call:
    """How the runtime calls a function.

    Args:
        positional: names of the parameters given by position, in order.
        keywords: names of the parameters given by name.
    """

    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


# None asks for an attribute.
Members = Mapping[str, Call | None]

_ASYNC_LLM = "vllm.v1.engine.async_llm:AsyncLLM"

_OF_THE_ENGINE: dict[str, Members] = {
    "vllm.engine.arg_utils:AsyncEngineArgs": {"model": None},
    _ASYNC_LLM: {
        "from_engine_args": Call(("engine_args",), ("stat_loggers",)),
        "add_request": Call(("request_id", "prompt", "params"), ("lora_request",)),
        "generate": Call(("prompt", "sampling_params", "request_id"), ("lora_request",)),
        "add_lora": Call(("lora_request",)),
        "remove_lora": Call(("lora_id",)),
        "abort": Call(("request_id",)),
        "check_health": Call(),
        "get_tokenizer": Call(),
        "shutdown": Call(keywords=("timeout",)),
        "model_config": None,
    },
    "vllm.v1.engine.output_processor:RequestOutputCollector": {
        "put": Call(("output",)),
        "get_nowait": Call(),
    },
    "vllm.lora.request:LoRARequest": dict.fromkeys(["lora_name", "lora_int_id", "lora_path"]),
    "vllm.lora.ops.torch_ops.lora_ops:bgmv_shrink": {
        ITSELF: Call(("inputs", "lora_b_weights", "output_tensor", "lora_indices_tensor"))
    },
    "vllm.inputs.engine:tokens_input": {ITSELF: Call(("prompt_token_ids",))},
    "vllm.config.model:ModelConfig": {"max_model_len": None, "get_diff_sampling_param": Call()},
    "vllm.sampling_params:SamplingParams": {
        **dict.fromkeys(sampling.SamplingParameters.model_fields),
        "output_kind": None,
    },
    "vllm.sampling_params:RequestOutputKind": {"DELTA": None},
    "vllm.outputs:RequestOutput": {"outputs": None},
    "vllm.outputs:CompletionOutput": dict.fromkeys(
        ["index", "text", "token_ids", "finish_reason", "logprobs", "cumulative_logprob"]
    ),
    "vllm.logprobs:Logprob": dict.fromkeys(["logprob", "rank", "decoded_token"]),
    "vllm.v1.metrics.loggers:StatLoggerBase": {
        "__init__": Call(("vllm_config", "engine_index")),
        # vLLM calls this one; the runtime overrides it.
        "record": Call(("scheduler_stats", "iteration_stats")),
        "log_engine_initialized": Call(),
    },
    "vllm.v1.metrics.stats:SchedulerStats": dict.fromkeys(
        ["num_running_reqs", "num_waiting_reqs", "kv_cache_usage"]
    ),
    "vllm.v1.engine.exceptions:EngineDeadError": {},
    "vllm.v1.engine.exceptions:EngineGenerateError": {},
}


def _all_names() -> dict[str, Members]:
    """Those of the engine, and those that `runtime.vllm_chat` says it uses."""
    names = {name: dict(members) for name, members in _OF_THE_ENGINE.items()}
    for (module, name), parameters in vllm_chat.CONTRACT.items():
        owner, _, method = name.partition(".")
        members = names.setdefault(f"{module}:{owner}", {})
        if method:
            known = members.get(method) or Call()
            members[method] = Call(known.positional, (*known.keywords, *parameters))
    return dict(names)


NAMES: dict[str, Members] = _all_names()


def problems(has: Mapping[str, Mapping[str, str | None] | None]) -> list[str]:
    """What a version lacks of `NAMES`.

    Args:
        has: a recording.

    Returns:
        One sentence for each.
    """
    found: list[str] = []
    for name, members in NAMES.items():
        given = has.get(name)
        if given is None:
            found.append(f"{name} is missing")
            continue
        for member, call in members.items():
            found += [f"{name} {member}: {problem}" for problem in _problem(given.get(member), call)]
    return found


def _problem(has: str | None, call: Call | None) -> Iterator[str]:
    if has is None:
        yield "is missing"
    elif call is None:
        return
    elif has == ATTRIBUTE:
        yield "is no function"
    else:
        signature = inspect.signature(eval(f"lambda {has}: None"))
        try:
            bound = signature.bind(*call.positional, **dict.fromkeys(call.keywords))
        except TypeError as error:
            yield f"({has}): {error}"
            return
        # Each argument is its own name here, so one that arrives elsewhere shows.
        for parameter in call.positional:
            if bound.arguments.get(parameter) != parameter:
                yield f"({has}): {parameter} is not at its place"


def recording(sources: vllm_args.Sources) -> dict[str, dict[str, str | None] | None]:
    """What one vLLM has of `NAMES`."""
    result: dict[str, dict[str, str | None] | None] = {}
    for name, members in NAMES.items():
        module, _, attribute = name.partition(":")
        found = None
        if sources.module(module) is not None:
            found = _find(vllm_args.Scope(sources, module), attribute)
        if found is None:
            result[name] = None
            continue
        scope, node = found
        has = _members(scope, node) if isinstance(node, ast.ClassDef) else {ITSELF: _parameters(node)}
        result[name] = {member: has.get(member) for member in members}
    return result


def _find(scope: vllm_args.Scope, name: str) -> tuple[vllm_args.Scope, ast.AST] | None:
    found = scope.find(name)
    if found is not None:
        return found
    tree = scope.sources.module(scope.module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return scope, node
    return None


def _members(scope: vllm_args.Scope, node: ast.ClassDef) -> dict[str, str | None]:
    members: dict[str, str | None] = {}
    for base in node.bases:
        found = scope.find(base.id) if isinstance(base, ast.Name) else None
        if found and isinstance(found[1], ast.ClassDef):
            members |= _members(found[0], found[1])
    for item in ast.walk(node):
        match item:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                members.setdefault(name, ATTRIBUTE)
    for item in node.body:
        match item:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                members[name] = ATTRIBUTE
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                members[name] = _parameters(item)
    return members


def _parameters(node: ast.AST) -> str:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ATTRIBUTE
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if decorators & {"property", "cached_property", "functools.cached_property"}:
        return ATTRIBUTE
    arguments = node.args
    everything = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in [*everything, arguments.vararg, arguments.kwarg]:
        if argument is not None:
            argument.annotation = None
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [value and ast.Constant(None) for value in arguments.kw_defaults]
    first = (arguments.posonlyargs or arguments.args)[:1]
    if first and first[0].arg in ("self", "cls"):
        (arguments.posonlyargs or arguments.args).pop(0)
    return ast.unparse(arguments)


def main() -> None:
    """Writes the recordings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "origin", nargs="+", type=Path, help="a wheel of vLLM, or the directory it was unpacked to"
    )
    for origin in parser.parse_args().origin:
        sources = vllm_args.Sources(origin)
        has = recording(sources)
        RECORDINGS.mkdir(exist_ok=True)
        (RECORDINGS / f"vllm-{sources.version}.json").write_text(
            json.dumps(has, indent=1, sort_keys=True) + "\n"
        )
        for problem in problems(has):
            print(f"vLLM {sources.version}: {problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
