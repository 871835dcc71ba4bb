"""How much memory a container's limits leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonllm.serve import memory_limits


def group(directory: Path, **files: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / f"memory.{name}").write_text(f"{content}\n")


def test_a_limit_counts_less_what_is_used_and_cannot_be_given_up(tmp_path: Path) -> None:
    group(tmp_path / "pod", max=1000, current=700, stat="anon 300\ninactive_file 400")
    assert memory_limits.free_in_cgroups("0::/pod\n", tmp_path) == [700]


def test_every_group_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "pod", max=500, current=100, stat="inactive_file 0")
    group(tmp_path / "pod" / "main", max=1000, current=100, stat="inactive_file 0")
    assert sorted(memory_limits.free_in_cgroups("0::/pod/main\n", tmp_path)) == [400, 900]


def test_no_limit_is_no_number(tmp_path: Path) -> None:
    group(tmp_path / "pod", max="max", current=100, stat="inactive_file 0")
    assert memory_limits.free_in_cgroups("0::/pod\n", tmp_path) == []


def test_version_1_has_other_names(tmp_path: Path) -> None:
    stat = "inactive_file 0\ntotal_inactive_file 50"
    group(tmp_path / "memory" / "docker", limit_in_bytes=1000, usage_in_bytes=250, stat=stat)
    membership = "12:cpu,cpuacct:/docker\n5:memory:/docker\n"
    assert memory_limits.free_in_cgroups(membership, tmp_path) == [800]


@pytest.mark.parametrize("membership", ["0::/\n", "0::/../../elsewhere/pod\n", "0::/kubepods/pod1/main\n"])
def test_a_container_finds_its_own_group_at_the_top(tmp_path: Path, membership: str) -> None:
    group(tmp_path, max=1000, current=0, stat="inactive_file 0")
    assert memory_limits.free_in_cgroups(membership, tmp_path) == [1000]


@pytest.mark.parametrize("membership", ["", "0::/gone\n", "nonsense"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, membership: str) -> None:
    assert memory_limits.free_in_cgroups(membership, tmp_path) == []


def test_more_than_the_machine_has_is_never_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "free_in_cgroups", lambda *_: [1 << 62])
    assert 0 < memory_limits.available() < 1 << 62
    monkeypatch.setattr(memory_limits, "free_in_cgroups", lambda *_: [5, 1 << 62])
    assert memory_limits.available() == 5
