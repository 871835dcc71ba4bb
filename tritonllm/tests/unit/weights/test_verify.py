"""What `weights verify` finds, and what it leaves in peace."""

from __future__ import annotations

import json
from pathlib import Path

import caches
import pytest
from caches import REPO

from tritonllm.weights import check, layout


@pytest.fixture
def cache(tmp_path: Path) -> layout.Cache:
    return layout.Cache(tmp_path / "cache")


def problems(cache: layout.Cache, *, full: bool = False) -> tuple[str, ...]:
    (checked,) = check.verify(cache, full=full)
    return checked.problems


def test_what_was_published_is_whole(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache)
    (checked,) = check.verify(cache, full=True)
    assert (checked.repo, checked.commit, checked.directory) == (REPO, snapshot.commit, snapshot.directory)
    assert checked.problems == ()


def test_an_empty_or_missing_cache_has_nothing_to_verify(cache: layout.Cache) -> None:
    assert list(check.verify(cache)) == []
    cache.root.mkdir()
    assert list(check.verify(cache, full=True)) == []


def test_only_the_repositories_that_were_named_are_looked_at(cache: layout.Cache) -> None:
    caches.publish(cache)
    caches.publish(cache, repo="acme/other")
    assert [checked.repo for checked in check.verify(cache, ["acme/other"])] == ["acme/other"]


def test_wrong_bytes_of_the_right_length_are_found_by_reading_all(cache: layout.Cache) -> None:
    path = caches.publish(cache).directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert problems(cache) == ()
    (problem,) = problems(cache, full=True)
    assert problem.startswith("model.safetensors has other bytes")


def test_a_cut_file_is_found_by_its_size(cache: layout.Cache) -> None:
    path = caches.publish(cache).directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = problems(cache)
    assert problem.startswith("model.safetensors has ")


def test_a_missing_file_is_named(cache: layout.Cache) -> None:
    (caches.publish(cache).directory / "config.json").unlink()
    assert problems(cache, full=True) == ("config.json can't be read: No such file or directory",)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 99}', b"\xff", None])
def test_a_directory_without_a_valid_marker_is_reported(cache: layout.Cache, content: bytes | None) -> None:
    path = caches.publish(cache).directory / layout.MARKER
    path.unlink() if content is None else path.write_bytes(content)
    (problem,) = problems(cache)
    assert "no marker that can be read" in problem


@pytest.mark.parametrize(
    "change",
    [
        {"files": 3},
        {"files": [{"path": 1, "size": 1, "sha256": ""}]},
        {"repo": 1},
        {"commit": None},
        {"x": 1},
    ],
)
def test_a_marker_that_makes_no_sense_is_reported_as_none(
    cache: layout.Cache, change: dict[str, object]
) -> None:
    path = caches.publish(cache).directory / layout.MARKER
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    (problem,) = problems(cache, full=True)
    assert "no marker that can be read" in problem


def test_a_marker_of_another_commit_does_not_vouch_for_this_one(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache)
    snapshot.directory.rename(snapshot.home / caches.commit("b"))
    (problem,) = problems(cache)
    assert problem == f"its marker is that of {REPO} at {snapshot.commit}"


def test_weights_that_came_later_are_reported_as_an_engine_would_load_them(cache: layout.Cache) -> None:
    directory = caches.publish(cache).directory
    (directory / "extra.safetensors").write_bytes(caches.tensors())
    (directory / "README.md").write_text("no engine reads it")
    (directory / "evil.py").write_text("nor this one, without trustRemoteCode")
    assert problems(cache) == ("extra.safetensors is there, but its marker does not know it",)


def test_patterns_of_another_version_are_not_held_against_a_directory(cache: layout.Cache) -> None:
    directory = caches.publish(cache).directory
    (directory / "extra.safetensors").write_bytes(caches.tensors())
    content = json.loads((directory / layout.MARKER).read_bytes()) | {"patterns": "of another version"}
    (directory / layout.MARKER).write_text(json.dumps(content))
    assert problems(cache) == ()


def test_directories_of_others_are_not_looked_at(cache: layout.Cache, tmp_path: Path) -> None:
    caches.fill(cache.root / "my-model")
    caches.fill(cache.root / "models--acme--tiny" / "snapshots" / caches.commit("a"))
    caches.fill(cache.home(REPO) / "backup")
    outside = caches.fill(tmp_path / "outside")
    (cache.home(REPO) / caches.commit("c")).symlink_to(outside)
    (cache.root / "acme--linked").symlink_to(outside)
    (cache.root / "acme--file").write_text("no directory")
    assert list(check.verify(cache)) == []
