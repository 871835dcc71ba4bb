"""The tool that looks up vLLM's names in its sources, on the vLLM that is installed and on one that lacks them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tritonllm import versions

TOOL = Path(__file__).parents[4] / "tools" / "vllm_contract.py"


def run(origin: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, origin], capture_output=True, text=True, check=False)


@pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed")
def test_the_sources_of_the_installed_vllm_have_every_name() -> None:
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    result = run(Path(found.origin).parents[1])
    assert (result.returncode, result.stderr) == (0, "")
    assert "all 10 names" in result.stdout


def test_what_a_vllm_lacks_is_named(tmp_path: Path) -> None:
    parser = tmp_path / "vllm" / "parser.py"
    parser.parent.mkdir()
    parser.write_text("class Parser:\n    def __init__(self, tokenizer): ...\n")
    (tmp_path / "vllm-0.1.0.dist-info").mkdir()
    result = run(tmp_path)
    assert result.returncode == 1
    assert "vLLM 0.1.0: " in result.stdout
    assert "vllm.parser.Parser.__init__ has no parameter tools" in result.stdout
    assert "vllm.parser.Parser.parse is missing" in result.stdout
    assert "vllm.reasoning is missing" in result.stdout
