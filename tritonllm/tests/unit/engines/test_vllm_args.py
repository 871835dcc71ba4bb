"""The generator of the argument tables, on sources written for it and on the vLLM that is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tritonllm import versions
from tritonllm.engines import vllm_args

TOOL = Path(__file__).parents[4] / "tools" / "vllm_args.py"

ARG_UTILS = """
from __future__ import annotations
from typing import TYPE_CHECKING, Any, Literal
import torch
from vllm.config import ModelConfig, CacheConfig
from vllm.config.cache import Format
from .enums import Level
if TYPE_CHECKING:
    from vllm.lazy import Method
else:
    Method = Any

@dataclass
class EngineArgs:
    model: str = ModelConfig.model
    length: int = ModelConfig.length
    share: float = CacheConfig.share
    format: Format | None = None
    method: Method | str = "a"
    only: Method = "a"
    config: CacheConfig = get_field(ModelConfig, "cache")
    choices: list[int] | set[str] = field(default_factory=list)
    extra: "dict[str, Any] | None" = None
    dtype: torch.dtype = torch.float16
    level: Level = Level.HIGH
    shared: str | type[Any] = "x"
    anything: Any = None
    count: int = get_field(ModelConfig, "count")

    not_a_field = 3

@dataclass
class AsyncEngineArgs(EngineArgs):
    log: bool = False
"""
CONFIG = """
from typing import Literal
from vllm.config.cache import CacheConfig
@config
class Base:
    length: int = Field(default=None, ge=-1)
@config
class ModelConfig(Base):
    model: str = "some/model"
    cache: CacheConfig = Field(default_factory=CacheConfig)
    count: int = -1
"""
CACHE = """
Small = Literal["fp8", "auto"]
Format = Literal["bf16", Small]
@config
class CacheConfig:
    share: float = Field(default=0.9, gt=0)
"""
SOURCES = {
    "vllm-9.8.7+cu1.dist-info/METADATA": "Name: vllm\n",
    "vllm/__init__.py": "",
    "vllm/engine/__init__.py": "",
    "vllm/engine/arg_utils.py": ARG_UTILS,
    "vllm/engine/enums.py": "from enum import IntEnum\nclass Level(IntEnum):\n    HIGH = 1\n",
    "vllm/config/__init__.py": CONFIG,
    "vllm/config/cache.py": CACHE,
    "vllm/lazy.py": 'Method = Literal["a", "b"]\n',
}
EXPECTED = {
    "model": {"types": ["string"], "default": "some/model"},
    "length": {"types": ["integer", "null"], "default": None},
    "share": {"types": ["number"], "default": 0.9},
    "format": {"types": ["null", "string"], "enum": ["bf16", "fp8", "auto"], "default": None},
    "method": {"types": ["string"], "default": "a"},
    "only": {"types": ["string"], "enum": ["a", "b"], "default": "a"},
    "config": {"types": ["object"]},
    "choices": {"types": ["array"]},
    "extra": {"types": ["null", "object"], "default": None},
    "dtype": {"types": []},
    "level": {"types": ["integer"]},
    "shared": {"types": ["string"], "default": "x"},
    "anything": {"types": [], "default": None},
    "count": {"types": ["integer"], "default": -1},
    "log": {"types": ["boolean"], "default": False},
}


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("vllm_args", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "vllm-9.8.7+cu1-cp38-abi3-manylinux.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in SOURCES.items():
            archive.writestr(name, text)
    return path


def test_types_and_defaults_are_followed_to_where_they_are_written(tool: Any, wheel: Path) -> None:
    assert tool.table(tool.Sources(wheel)) == EXPECTED


def test_an_unpacked_wheel_gives_the_table_of_the_wheel(tool: Any, wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    packed, unpacked = tool.Sources(wheel), tool.Sources(tmp_path / "unpacked")
    assert packed.version == unpacked.version == "9.8.7"
    assert tool.render(tool.table(packed)) == tool.render(tool.table(unpacked))


def test_a_table_is_sorted_json_with_an_argument_a_line(tool: Any) -> None:
    text = tool.render(EXPECTED)
    assert json.loads(text) == EXPECTED
    assert [line.split('"')[1] for line in text.splitlines()[1:-1]] == sorted(EXPECTED)


def test_check_fails_for_a_table_that_is_not_there_and_writes_nothing(
    tool: Any,
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tool, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(sys, "argv", ["vllm_args.py", str(wheel), "--check"])
    assert tool.main() == 1
    assert "stale" in capsys.readouterr().out
    assert not (tmp_path / "tables").exists()
    monkeypatch.setattr(sys, "argv", ["vllm_args.py", str(wheel)])
    assert tool.main() == 0
    monkeypatch.setattr(sys, "argv", ["vllm_args.py", str(wheel), "--check"])
    assert tool.main() == 0


def test_a_directory_without_vllm_is_an_error_that_says_what_to_give(tool: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="give a wheel"):
        tool.Sources(tmp_path)


_FIELDS = """
import dataclasses, json
from vllm.engine.arg_utils import AsyncEngineArgs
print(json.dumps([field.name for field in dataclasses.fields(AsyncEngineArgs)]))
"""


@pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed")
def test_the_table_of_the_installed_vllm_has_the_names_of_its_dataclass() -> None:
    table, warning = vllm_args.table(versions.installed_version())
    assert warning is None
    # In a process of its own: vLLM's import is heavy and warns.
    output = subprocess.run(
        [sys.executable, "-c", _FIELDS], capture_output=True, text=True, check=True
    ).stdout
    assert set(json.loads(output.splitlines()[-1])) == table["arguments"].keys() - vllm_args.OWN.keys()
