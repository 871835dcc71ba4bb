"""Looks up in vLLM's sources every name that `runtime.vllm_chat` uses, and the parameters that it passes.

    python tools/vllm_contract.py WHEEL_OR_DIRECTORY…

Reads a wheel, an unpacked wheel or a site-packages directory as text, so versions that can't run here can be checked.
The installed one is checked by a test, which imports it.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import vllm_args

from tritonllm.runtime import vllm_chat


def problems(sources: vllm_args.Sources) -> list[str]:
    """What a vLLM lacks; empty if it has everything."""
    return [
        problem
        for (module, name), parameters in vllm_chat.CONTRACT.items()
        if (problem := _problem(sources, module, name, parameters))
    ]


def _problem(sources: vllm_args.Sources, module: str, name: str, parameters: tuple[str, ...]) -> str | None:
    class_name, _, method = name.partition(".")
    try:
        found = vllm_args.Scope(sources, module).find(class_name)
    except LookupError:
        return f"{module} is missing"
    if found is None or not isinstance(found[1], ast.ClassDef):
        return f"{module}.{class_name} is missing"
    if not method:
        return None
    functions = [
        item
        for item in found[1].body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == method
    ]
    if not functions:
        return f"{module}.{name} is missing"
    arguments = functions[-1].args
    known = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    absent = [parameter for parameter in parameters if parameter not in known]
    return f"{module}.{name} has no parameter {', '.join(absent)}" if absent else None


def main() -> int:
    """Prints what each vLLM lacks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "origin", nargs="+", type=Path, help="a wheel of vLLM, or the directory it was unpacked to"
    )
    failed = False
    for origin in parser.parse_args().origin:
        sources = vllm_args.Sources(origin)
        found = problems(sources)
        failed = failed or bool(found)
        print(f"vLLM {sources.version}: {'; '.join(found) or f'all {len(vllm_chat.CONTRACT)} names'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
