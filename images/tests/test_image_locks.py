"""The packages of the GPU image: NVIDIA's container, what tritonllm adds to it, and what is left as it is."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "images/triton")]
import image_locks  # noqa: E402
import missing  # noqa: E402

TRITON = ROOT / "images/triton"


def versions(text: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


CONTAINER = versions((TRITON / "container.txt").read_text())
ADDED = versions((TRITON / "requirements.txt").read_text())
PROJECT = [
    Requirement(text)
    for text in tomllib.loads((ROOT / "tritonllm/pyproject.toml").read_text())["project"]["dependencies"]
]


def resolved(resolve: Callable[[], str]) -> str:
    if "UV" not in os.environ:
        pytest.skip("NOT RUN: the variable UV names no uv; `make test` sets it")
    try:
        return resolve()
    except image_locks.Unreachable as error:
        pytest.skip(f"NOT RUN: the package index does not answer: {error}")


@pytest.mark.parametrize("requirement", PROJECT, ids=lambda requirement: requirement.name)
def test_the_lock_has_what_tritonllm_needs(requirement: Requirement) -> None:
    assert requirement.specifier.contains(ADDED[canonicalize_name(requirement.name)])


def test_what_the_container_has_stays_as_it_is() -> None:
    changed = {name for name, version in ADDED.items() if name in CONTAINER and version != CONTAINER[name]}
    assert changed == missing.REPLACED


def test_what_the_tests_run_with_is_what_the_image_gets() -> None:
    assert versions((TRITON / "test-requirements.txt").read_text()).items() >= ADDED.items()


def test_the_tools_that_build_have_the_version_that_is_written_down() -> None:
    tools = versions((ROOT / "images/build-tools.txt").read_text())
    assert f"UV_VERSION={tools['uv']}\n" in (ROOT / "images/versions.env").read_text()


@pytest.mark.parametrize("lock", ["build-tools.txt", "triton/requirements.txt"])
def test_a_lock_has_hashes_of_everything(lock: str) -> None:
    text = (ROOT / "images" / lock).read_text()
    requirements = missing.missing(text, [])
    assert len(requirements) == len(versions(text)) > 20
    assert all("--hash=sha256:" in requirement for requirement in requirements)


def test_only_what_is_not_there_is_installed() -> None:
    lock = "aiohttp==3.14.3 \\\n    --hash=sha256:aa\nprotobuf==6.33.6 \\\n    --hash=sha256:bb\n# via\nuvloop==0.23.0 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
    assert missing.missing(lock, ["AIOHTTP==3.9", "protobuf==7.35.1", "torch @ file:///torch.whl"]) == [
        "protobuf==6.33.6 \\\n    --hash=sha256:bb",
        "uvloop==0.23.0 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd",
    ]


def test_a_package_is_the_same_however_its_name_is_written() -> None:
    assert missing.missing("ruamel-yaml==0.19.1\n", ["ruamel.yaml==0.18"]) == []


@pytest.mark.parametrize(
    ("resolve", "file"),
    [
        (image_locks.container, "triton/container.txt"),
        (image_locks.added, "triton/requirements.txt"),
        (image_locks.tested, "triton/test-requirements.txt"),
        (image_locks.build_tools, "build-tools.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lock_is_current(resolve: Callable[[], str], file: str) -> None:
    assert resolved(resolve) == (ROOT / "images" / file).read_text(), "run `python tools/image_locks.py`"


def test_tritonllm_and_the_vllm_of_the_container_fit_beside_each_other() -> None:
    found = versions(resolved(image_locks.beside_vllm))
    assert found["vllm"] == CONTAINER["vllm"]
    assert found.items() >= {(name, ADDED[name]) for name in missing.REPLACED}


def test_versions_that_do_not_fit_are_told_from_an_index_that_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "impossible.in").write_text("numpy<1\nnumpy>2\n")
    monkeypatch.setattr(image_locks, "_KNOWN", (str(tmp_path / "impossible.in"),))
    with pytest.raises(image_locks.Unresolvable, match="numpy<1 and numpy>2"):
        resolved(image_locks.container)
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/")
    (tmp_path / "impossible.in").write_text("tritonllm-is-not-there\n")
    with pytest.raises(image_locks.Unreachable):
        image_locks.container()


def test_base_images_are_named_by_digest() -> None:
    text = (ROOT / "images/versions.env").read_text()
    images = re.findall(r"^\w+_IMAGE=(.+)$", text, flags=re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"[^@\s]+:[^@\s]+@sha256:[0-9a-f]{64}", image) for image in images)
