"""Wrong bytes are found, and files that can't be a model."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

import weights_files
from tritonllm.weights import integrity, selection

CONTENT = bytes(range(256)) * 10


def digests(content: bytes, *, large: bool) -> integrity.Digests:
    """Of the right content."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest() if large else None
    return integrity.Digests(
        selection.RemoteFile("x", len(content), "of a pointer" if large else oid, sha256)
    )


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("content", [CONTENT, b""])
def test_right_bytes_are_right_in_whatever_portions(tmp_path: Path, large: bool, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content[:1000])
    taken = digests(content, large=large)
    assert taken.read(tmp_path / "x") == len(content[:1000])
    for start in range(1000, len(content), 7):
        taken.update(content[start : start + 7])
    assert taken.right
    assert taken.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"?", b""])
def test_wrong_bytes_are_wrong(large: bool, wrong: bytes) -> None:
    taken = digests(CONTENT, large=large)
    taken.update(wrong)
    assert not taken.right


def problems(directory: Path, files: dict[str, bytes]) -> list[str]:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return list(integrity.problems(directory, files))


def test_a_whole_model_has_no_problems(tmp_path: Path) -> None:
    assert problems(tmp_path, weights_files.needed(weights_files.model())) == []


def test_a_shard_that_the_index_names_is_missed(tmp_path: Path) -> None:
    files = weights_files.needed(weights_files.model(shards=4))
    del files["model-00002-of-00004.safetensors"], files["model-00003-of-00004.safetensors"]
    assert problems(tmp_path, files) == [
        "model.safetensors.index.json names model-00002-of-00004.safetensors, which is not there"
        " (2 of 4 files missing)"
    ]


def header(content: object) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"<html>Welcome! Please log in.</html>",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 3) + b"{}",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    ],
)
def test_what_is_no_safetensors_file_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    assert problems(tmp_path, {"model.safetensors": content}) == ["model.safetensors is no safetensors file"]


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2) + b"{!",
        struct.pack("<Q", 3) + b"\xff\xfe\xfd",
        header([]),
        header(55),
        header({"a": {}}),
        header({"a": {"data_offsets": [0]}}),
        header({"a": {"data_offsets": [0, None]}}),
        header({"a": {"data_offsets": [0, "many"]}, "b": {"data_offsets": [0, 1]}}),
    ],
)
def test_a_header_that_says_nothing_is_no_header(tmp_path: Path, content: bytes) -> None:
    expected = ["model.safetensors has no readable safetensors header"]
    assert problems(tmp_path, {"model.safetensors": content}) == expected


def test_tensors_that_are_cut_off_are_missed(tmp_path: Path) -> None:
    whole = weights_files.safetensors(100)
    assert problems(tmp_path, {"model.safetensors": whole[:-1]}) == [
        "model.safetensors has 99 bytes of tensors where its header wants 100"
    ]


def test_a_file_of_metadata_alone_is_right(tmp_path: Path) -> None:
    assert problems(tmp_path, {"model.safetensors": header({"__metadata__": {"format": "pt"}})}) == []


@pytest.mark.parametrize("content", [b"{}", b"[]", b"!", b'{"weight_map": 5}', b"\xff"])
def test_an_index_that_says_nothing_is_no_index(tmp_path: Path, content: bytes) -> None:
    name = "model.safetensors.index.json"
    assert problems(tmp_path, {name: content}) == [f"{name} has no readable weight_map"]
