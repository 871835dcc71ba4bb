"""What the processes of an endpoint import: an edit of its policy starts new ones, and is live when they have."""

from __future__ import annotations

import functools
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fake_backend_utils
from tritonllm.render import canonical
from tritonllm.runtime import guardrail

TESTS = Path(fake_backend_utils.__file__).parent
MODELS = Path(__file__).parents[4] / "model_repository"

# As Triton's stub does: it imports the model's file.
LOAD = """
import gc, json, runpy, sys
sys.path.append(sys.argv[1])
import fake_backend_utils
fake_backend_utils.install()
runpy.run_path(sys.argv[2])
print(json.dumps({"modules": sorted(sys.modules), "collects": gc.isenabled()}))
"""


@functools.cache
def loaded(kind: str) -> Any:
    """What a new process has done when it has imported a model."""
    file = MODELS / kind / "1" / "model.py"
    run = subprocess.run(
        [sys.executable, "-c", LOAD, TESTS, file], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("kind", ["pipeline", "guardrail"])
@pytest.mark.parametrize(
    "module",
    [
        "tritonllm.api",
        "tritonllm.engines",
        "tritonllm.render.config",
        "tritonllm.rules.data_types",
        "tritonllm.rules.words",
        "confusable_homoglyphs.confusables",
        "stopwordsiso",
        "tritonclient",
        "yaml",
    ],
)
def test_a_load_does_not_wait_for_what_only_other_processes_need(kind: str, module: str) -> None:
    assert module not in loaded(kind)["modules"]


@pytest.mark.parametrize("kind", ["pipeline", "guardrail"])
def test_nothing_looks_for_garbage_while_a_model_is_imported(kind: str) -> None:
    assert not loaded(kind)["collects"]


def test_garbage_is_collected_again_when_a_model_is_initialized() -> None:
    parameters = {
        "policy": {"string_value": canonical.pack({})},
        "prompt_characters": {"string_value": "100"},
    }
    gc.disable()
    try:
        model = guardrail.TritonPythonModel()
        model.initialize(
            {"model_name": "chat-guardrail", "model_config": json.dumps({"parameters": parameters})}
        )
        assert gc.isenabled()
    finally:
        gc.enable()
