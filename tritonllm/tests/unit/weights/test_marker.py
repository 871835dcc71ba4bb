"""Without a valid marker nothing is served."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tritonllm.weights import layout, marker, selection

COMMIT = "0123456789" * 4
SAFE = selection.Wanted()
CODE = selection.Wanted(remote_code=True)
MISTRAL = selection.Wanted(layout="mistral")
PICKLE = selection.Wanted(allow_pickle=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    marker.write(tmp_path, complete())
    return tmp_path


def complete(wanted: selection.Wanted = SAFE, kind: selection.Format = "safetensors") -> marker.Marker:
    files = (marker.File("config.json", 2, "0" * 64),)
    return marker.Marker("org/name", COMMIT, wanted, kind, files, wanted.digest())


def test_what_was_written_is_read(directory: Path) -> None:
    found = marker.read(directory)
    assert found is not None
    assert found == dataclasses.replace(complete(), completed=found.completed)
    assert (found.size, found.tool) == (2, "0.1.0")


def test_it_says_what_it_is_to_whoever_reads_it(directory: Path) -> None:
    content = json.loads((directory / ".complete.json").read_text())
    assert content["schema"] == 1
    assert content["files"] == [{"path": "config.json", "size": 2, "sha256": "0" * 64}]
    assert content["patterns"] == SAFE.digest()


def test_a_directory_without_one_is_not_complete(tmp_path: Path) -> None:
    assert marker.read(tmp_path) is None
    assert marker.used(tmp_path) is None


@pytest.mark.parametrize("change", ["", "{}x"])
def test_a_file_of_another_size_is_noticed(directory: Path, change: str) -> None:
    (directory / "config.json").write_text(change)
    assert marker.read(directory) is None


def test_a_file_that_is_gone_is_noticed(directory: Path) -> None:
    (directory / "config.json").unlink()
    assert marker.read(directory) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"x"', b"5", b"null", b"{}", b"\xff", b'{"schema": 1}']
)
def test_what_is_no_marker_is_none(directory: Path, content: bytes) -> None:
    (directory / ".complete.json").write_bytes(content)
    assert marker.read(directory) is None


@pytest.mark.parametrize("change", [{"schema": 2}, {"files": 5}, {"wanted": {"x": 1}}, {"more": 1}])
def test_a_marker_of_another_kind_is_none(directory: Path, change: dict[str, Any]) -> None:
    path = directory / ".complete.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert marker.read(directory) is None


def test_a_directory_that_was_moved_is_not_another_commit(directory: Path) -> None:
    cache = layout.Cache(directory.parent)
    right, wrong = cache.snapshot("org/name", COMMIT), cache.snapshot("org/name", "f" * 40)
    assert marker.of(right, directory) is not None
    assert marker.of(wrong, directory) is None
    assert marker.of(cache.snapshot("org/other", COMMIT), directory) is None


@pytest.mark.parametrize(
    ("has", "kind", "wanted", "serves"),
    [
        (SAFE, "safetensors", SAFE, True),
        (SAFE, "safetensors", PICKLE, True),
        (SAFE, "safetensors", CODE, False),
        (CODE, "safetensors", SAFE, True),
        (PICKLE, "safetensors", SAFE, True),
        (PICKLE, "pickle", SAFE, False),
        (PICKLE, "pickle", PICKLE, True),
        (PICKLE, "pickle", CODE, False),
        (SAFE, "safetensors", MISTRAL, False),
        (MISTRAL, "safetensors", SAFE, False),
        (MISTRAL, "safetensors", MISTRAL, True),
        (MISTRAL.joined(SAFE), "safetensors", SAFE, True),
        (MISTRAL.joined(SAFE), "safetensors", MISTRAL, True),
    ],
)
def test_it_serves_who_finds_all_that_is_wanted_and_nothing_that_is_not_allowed(
    has: selection.Wanted, kind: selection.Format, wanted: selection.Wanted, serves: bool
) -> None:
    assert complete(has, kind).serves(wanted) is serves


def test_patterns_of_another_version_serve_as_before() -> None:
    assert dataclasses.replace(complete(), patterns="of another version").serves(SAFE)


def test_use_is_noted_and_does_not_change_it(directory: Path) -> None:
    os.utime(directory / ".complete.json", (0, 0))
    before = marker.used(directory)
    marker.touch(directory)
    after = marker.used(directory)
    assert before is not None
    assert after is not None
    assert after > before
    assert marker.read(directory) is not None
