"""What is generated from the code and committed is what the code says now."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tritonllm import api

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "tools"


def load(name: str) -> types.ModuleType:
    """A tool, which finds its neighbours as it does when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def tool() -> types.ModuleType:
    return load("endpoint_docs")


@pytest.fixture(scope="module")
def crd() -> types.ModuleType:
    return load("crd")


def test_the_reference_of_the_endpoint_is_current(tool: types.ModuleType) -> None:
    for name, text in tool.outputs().items():
        assert (ROOT / "docs" / name).read_text() == text, "run `python tools/endpoint_docs.py`"


def test_the_resource_that_is_installed_is_current(crd: types.ModuleType) -> None:
    for name, text in crd.outputs().items():
        assert (crd.TEMPLATES / name).read_text() == text, "run `python tools/crd.py`"


def test_every_field_is_in_the_reference(tool: types.ModuleType) -> None:
    page = tool.outputs()["api.md"]
    for model in (
        api.Spec,
        api.Model,
        api.Engine,
        api.Prompt,
        api.Sampling,
        api.Guardrails,
        api.Rule,
        api.Limits,
    ):
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in page


def test_a_stale_reference_is_told_and_left_alone(
    tool: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "api.md"
    stale.write_text("old")
    monkeypatch.setattr(tool, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["endpoint_docs.py", "--check"])

    with pytest.raises(SystemExit, match=r"api\.md, endpoint\.schema\.json"):
        tool.main()

    assert stale.read_text() == "old"


@pytest.mark.parametrize("name", ["endpoint_docs", "crd"])
def test_the_check_passes_as_a_command(name: str) -> None:
    subprocess.run([sys.executable, TOOLS / f"{name}.py", "--check"], check=True, timeout=200)


def test_a_stale_resource_is_told_and_left_alone(
    crd: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crd, "TEMPLATES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["crd.py", "--check"])
    with pytest.raises(SystemExit, match=r"crd\.yaml, .* run `python tools/crd\.py`"):
        crd.main()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"type": "string"}, "a string without an upper bound"),
        ({"type": "string", "pattern": "^x*$"}, "has no longest match"),
        ({"type": "array", "items": {"type": "string", "maxLength": 9}}, "a list without an upper bound"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "a field of Kubernetes has one"),
    ],
)
def test_what_kubernetes_can_not_hold_is_told_when_it_is_written(
    crd: types.ModuleType, field: dict[str, Any], said: str
) -> None:
    with pytest.raises(SystemExit, match=f"Spec.new: .*{said}"):
        crd.structural(field, {}, "Spec.new")


def test_what_helm_would_take_for_its_own_is_escaped(crd: types.ModuleType) -> None:
    written = crd.document("v1", "Kind", "name", {"description": "a {{ b }}"})
    assert 'description: a {{ "{{" }} b }}' in written


def test_the_schema_refuses_what_validation_refuses(tool: types.ModuleType) -> None:
    schema = json.loads(tool.outputs()["endpoint.schema.json"])
    spec = schema["$defs"]["Spec"]
    assert spec["additionalProperties"] is False
    assert "guardrails" in spec["required"]


def test_the_fields_that_this_version_knows_are_recorded_for_later_operators() -> None:
    tool = load("known_fields")
    assert tool.file().read_text() == tool.text(), "run `python tools/known_fields.py`"
