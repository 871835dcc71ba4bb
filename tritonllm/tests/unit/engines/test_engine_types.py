"""What every engine type has to say about itself."""

from __future__ import annotations

import importlib.util
import re
import typing
from pathlib import Path

import pytest

from tritonllm import api, engines
from tritonllm.serve import preflight

SOURCES = Path(__file__).parents[4]
TYPES = list(engines.TYPES.values())


def test_the_schema_has_the_registered_types() -> None:
    assert list(typing.get_args(engines.Name)) == list(engines.TYPES)


@pytest.mark.parametrize(
    "engine", [each for each in TYPES if each.generates_text], ids=lambda each: each.name
)
def test_the_backend_of_a_type_is_a_class_of_the_runtime(engine: engines.EngineType) -> None:
    module, _, name = engine.backend.partition(":")
    found = importlib.util.find_spec(module)
    assert module.startswith("tritonllm.runtime.")
    assert found is not None
    # Read, not imported: its library need not be installed.
    assert re.search(rf"^class {name}\b", Path(str(found.origin)).read_text(), re.MULTILINE)


@pytest.mark.parametrize("engine", TYPES, ids=lambda each: each.name)
def test_a_type_that_needs_a_package_says_what_to_install(engine: engines.EngineType) -> None:
    spec = {"pool": "llm", "guardrails": {}, "engine": {"type": engine.name}}
    weights = {"model": {"path": "a"}} if engine.needs_weights else {}
    endpoint = api.LLMEndpoint.model_validate(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "chat"},
            "spec": spec | weights,
        }
    )
    assert preflight.packages([endpoint], installed=lambda _: True) == {}
    found = preflight.packages([endpoint], installed=lambda _: False)
    assert found.keys() == ({"chat"} if engine.package else set())
    assert all("pip install" in problem for problem in found.values())


def test_nobody_compares_the_name_of_a_type() -> None:
    found = [
        f"{file.name}: {line.strip()}"
        for package in ("tritonllm", "operator")
        for file in (SOURCES / package / "src").rglob("*.py")
        for line in file.read_text().splitlines()
        if re.search(r"engine\.type\s*(==|!=|in\b)", line)
    ]
    assert found == []
