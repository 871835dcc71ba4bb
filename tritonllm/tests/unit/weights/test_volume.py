"""What a volume refuses comes out as the right failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tritonllm.weights import failures, volume


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_is_full(number: int) -> None:
    with (
        pytest.raises(failures.DiskFull, match=r"full, while writing a\.json.*weights gc"),
        volume.writing("a.json"),
    ):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOENT])
def test_any_other_refusal_is_said_as_it_is(number: int) -> None:
    expected = f"a.json can't be written: {os.strerror(number)}"
    with pytest.raises(failures.NotWritable, match=expected), volume.writing("a.json"):
        raise OSError(number, os.strerror(number))


def test_a_refusal_by_permission_names_who_asked_and_who_owns(tmp_path: Path) -> None:
    tmp_path.chmod(0o2750)
    missing = tmp_path / "not" / "there"
    expected = f"uid {os.getuid()}, gid {os.getgid()}, .*; {tmp_path} belongs to uid .*, gid .*, mode 2750"
    with pytest.raises(failures.NotWritable, match=expected), volume.writing("the model"):
        raise PermissionError(errno.EACCES, "Permission denied", str(missing))


def test_a_failure_inside_stays_what_it_is() -> None:
    with pytest.raises(failures.GatedRepo), volume.writing("a.json"):
        raise failures.GatedRepo("no")


def test_too_little_room_is_said_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(
        failures.DiskFull, match=r"org/name needs 1000000\.00 GB more and .* has [0-9.]+ [GM]B free"
    ):
        volume.room(tmp_path, 10**15, "org/name")
    volume.room(tmp_path, 1000, "org/name")
    volume.room(tmp_path, -1000, "org/name")


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    volume.replace(path, b"one")
    volume.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        volume.replace(tmp_path / "file", b"two")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_probe_leaves_nothing_and_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    old, young = tmp_path / ".probe-old", tmp_path / "..probe-young.1"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    volume.probe(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_probe_does_not_mind_another_one_that_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda directory, pattern: iter([directory / ".probe-gone"]))
    volume.probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_probe_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(failures.NotWritable, match="file/cache can't be written: Not a directory"):
        volume.probe(tmp_path / "file" / "cache")


def test_a_directory_is_out_of_sight_and_then_gone(tmp_path: Path) -> None:
    (tmp_path / "old" / "deep").mkdir(parents=True)
    volume.discard(tmp_path / "old", tmp_path / ".trash")
    assert [each.name for each in tmp_path.iterdir()] == [".trash"]
    assert not any((tmp_path / ".trash").iterdir())
