"""Where things are in a cache, whatever a branch is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonllm.weights import layout

COMMIT = "0123456789" * 4
ODD = [
    "main",
    "refs/pr/1",
    "..",
    ".",
    ".hidden",
    "a..b",
    "%2F",
    "v1.0 final",
    "größe",
    "/etc/passwd",
    "../../x",
    "\0",
]


def test_only_a_whole_hash_is_a_commit() -> None:
    assert layout.is_commit(COMMIT)
    for other in ("main", COMMIT[:-1], COMMIT + "0", COMMIT.upper().replace("0", "A"), COMMIT + "\n"):
        assert not layout.is_commit(other)


@pytest.mark.parametrize("revision", ODD)
def test_a_revision_is_one_visible_file_in_its_directory(tmp_path: Path, revision: str) -> None:
    cache = layout.Cache(tmp_path)
    ref = cache.ref("org/name", revision)
    assert ref.parent == tmp_path / "org--name" / "refs"
    assert not ref.name.startswith(".")
    ref.parent.mkdir(parents=True)
    ref.write_text(f"{COMMIT}\n")
    assert cache.recorded("org/name", revision) == COMMIT


def test_no_two_revisions_share_a_file(tmp_path: Path) -> None:
    names = {layout.Cache(tmp_path).ref("org/name", revision) for revision in (*ODD, "%2Ehidden", "%2E.")}
    assert len(names) == len(ODD) + 2


@pytest.mark.parametrize("content", [b"", b"main", b"\xff\xfe", b"0" * 41])
def test_a_record_that_is_no_commit_is_none(tmp_path: Path, content: bytes) -> None:
    cache = layout.Cache(tmp_path)
    ref = cache.ref("org/name", "main")
    ref.parent.mkdir(parents=True)
    ref.write_bytes(content)
    assert cache.recorded("org/name", "main") is None


def test_a_commit_needs_no_record(tmp_path: Path) -> None:
    assert layout.Cache(tmp_path).recorded("org/name", COMMIT) == COMMIT


def test_attempts_of_one_commit_share_nothing_but_what_they_publish(tmp_path: Path) -> None:
    one = layout.Snapshot("org/name", COMMIT, tmp_path, ".1")
    two = layout.Snapshot("org/name", COMMIT, tmp_path, ".2")
    assert (one.directory, one.lock) == (two.directory, two.lock)
    assert not {one.staging, one.files, one.parts, one.progress} & {
        two.staging,
        two.files,
        two.parts,
        two.progress,
    }
