"""Every supported version of vLLM has the names that the runtime uses: one by import, the others as recorded."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[4] / "tools"
RECORDINGS = Path(__file__).parent / "vllm_names"
SUPPORTED = ("0.24.0", "0.25.1", "0.32.0", "0.33.0")


@pytest.fixture
def vllm_names(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module("vllm_names")
    for module in ("vllm_names", "vllm_args"):
        sys.modules.pop(module, None)


def recorded(version: str) -> dict[str, Any]:
    return json.loads((RECORDINGS / f"vllm-{version}.json").read_text())


def installed(vllm_names: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, members in vllm_names.NAMES.items():
        module, _, attribute = name.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        result[name] = {
            member: _member(vllm_names, found, member, is_call=call is not None)
            for member, call in members.items()
        }
    return result


def _member(vllm_names: Any, found: Any, member: str, *, is_call: bool) -> str | None:
    if is_call:
        function = found if member == vllm_names.ITSELF else getattr(found, member, None)
        if function is None:
            return None
        bound = inspect.ismethod(function) or member == vllm_names.ITSELF
        parameters = list(inspect.signature(function).parameters.values())
        plain = [
            each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else None)
            for each in parameters[0 if bound else 1 :]
        ]
        return str(inspect.Signature(plain))[1:-1]
    if hasattr(found, member):
        return vllm_names.ATTRIBUTE
    declared = any(member in vars(base).get("__annotations__", {}) for base in found.__mro__)
    set_at_start = member in getattr(found.__init__, "__code__", compile("", "", "exec")).co_names
    return vllm_names.ATTRIBUTE if declared or set_at_start else None


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_supported_version_has_every_name(vllm_names: Any, version: str) -> None:
    assert vllm_names.problems(recorded(version)) == []


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_recording_holds_what_is_asked_for_today(vllm_names: Any, version: str) -> None:
    asked = {name: set(members) for name, members in vllm_names.NAMES.items()}
    assert {name: set(members) for name, members in recorded(version).items()} == asked


# torch warns of its own deprecations while it is imported.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_installed_version_has_every_name(vllm_names: Any) -> None:
    pytest.importorskip("vllm")
    assert vllm_names.problems(installed(vllm_names)) == []


@pytest.mark.parametrize(
    ("has", "problem"),
    [
        (None, "is missing"),
        ("attribute", "is no function"),
        ("prompt, request_id, params, **kwargs", "request_id is not at its place"),
        ("request_id, prompt", "too many positional arguments"),
        ("request_id, prompt, params, *, priority, **kwargs", "'priority'"),
    ],
)
def test_a_changed_call_is_a_problem(vllm_names: Any, has: str | None, problem: str) -> None:
    names = recorded(SUPPORTED[0])
    names["vllm.v1.engine.async_llm:AsyncLLM"]["add_request"] = has
    assert any(problem in found for found in vllm_names.problems(names))


def test_a_name_that_has_moved_is_a_problem(vllm_names: Any) -> None:
    names = recorded(SUPPORTED[0])
    names["vllm.inputs.engine:tokens_input"] = None
    assert vllm_names.problems(names) == ["vllm.inputs.engine:tokens_input is missing"]
