"""What is generated from the code and committed is what the code says now."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tritonllm import api

ROOT = Path(__file__).parents[3]
TOOL = ROOT / "tools" / "endpoint_docs.py"


@pytest.fixture(scope="module")
def tool() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("endpoint_docs", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_the_endpoint_is_current(tool: types.ModuleType) -> None:
    for name, text in tool.outputs().items():
        assert (ROOT / "docs" / name).read_text() == text, "run `python tools/endpoint_docs.py`"


def test_every_field_is_in_the_reference(tool: types.ModuleType) -> None:
    page = tool.outputs()["endpoint.md"]
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
    stale = tmp_path / "endpoint.md"
    stale.write_text("old")
    monkeypatch.setattr(tool, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--check"])

    with pytest.raises(SystemExit, match=r"endpoint\.md, endpoint\.schema\.json"):
        tool.main()

    assert stale.read_text() == "old"


def test_the_check_passes_as_a_command() -> None:
    subprocess.run([sys.executable, TOOL, "--check"], check=True, timeout=60)


def test_the_schema_refuses_what_validation_refuses(tool: types.ModuleType) -> None:
    schema = json.loads(tool.outputs()["endpoint.schema.json"])
    spec = schema["$defs"]["Spec"]
    assert spec["additionalProperties"] is False
    assert "guardrails" in spec["required"]
