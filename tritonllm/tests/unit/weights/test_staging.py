"""What an earlier download left is of use, and what a living one writes is not touched."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path

import pytest

from tritonllm.weights import layout, marker, selection, staging

COMMIT = "0123456789" * 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_SILENT_SECONDS", 0.1)


def attempt(root: Path, letter: str, size: int = 0) -> layout.Snapshot:
    snapshot = layout.Cache(root).snapshot("org/name", COMMIT)
    place = dataclasses.replace(snapshot, attempt=f".{letter * 32}")
    if size:
        place.parts.mkdir(parents=True)
        (place.parts / "model.safetensors").write_bytes(b"x" * size)
    return place


def declared() -> marker.Marker:
    wanted = selection.Wanted()
    files = (marker.File("model.safetensors", 3, "0" * 64),)
    return marker.Marker("org/name", COMMIT, wanted, "safetensors", files, wanted.digest())


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_the_first_download_begins_with_nothing(tmp_path: Path) -> None:
    place = attempt(tmp_path, "a")
    staging.inherit(place)
    assert place.staging.parent.is_dir()
    assert not place.staging.exists()


def test_the_largest_is_gone_on_with_and_the_others_go(tmp_path: Path) -> None:
    small, large, place = attempt(tmp_path, "a", 10), attempt(tmp_path, "b", 20), attempt(tmp_path, "c")
    small.progress.write_text("stale")
    large.progress.with_suffix(".tmp").write_text("stale")
    staging.inherit(place)
    assert names(place.staging.parent) == {f"{place.staging.name}/parts/model.safetensors"}
    assert staging.size(place) == 20


def test_a_download_that_still_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living, place, stop, wrote = (
        attempt(tmp_path, "a", 10),
        attempt(tmp_path, "b"),
        threading.Event(),
        threading.Event(),
    )
    monkeypatch.setattr(staging, "_SILENT_SECONDS", 2.0)

    def write() -> None:
        for beat in itertools.count():
            living.progress.write_text(f"{beat}")
            wrote.set()
            if stop.wait(0.01):
                return

    thread = threading.Thread(target=write)
    thread.start()
    wrote.wait(30)
    try:
        staging.inherit(place)
    finally:
        stop.set()
        thread.join()
    assert not place.staging.exists()
    assert staging.size(living) == 10


def test_other_commits_are_left_alone(tmp_path: Path) -> None:
    other = dataclasses.replace(attempt(tmp_path, "a"), commit="f" * 40)
    other.parts.mkdir(parents=True)
    staging.inherit(attempt(tmp_path, "b"))
    assert other.parts.is_dir()


def test_only_files_that_are_wanted_stay(tmp_path: Path) -> None:
    place = attempt(tmp_path, "a", 10)
    place.files.mkdir()
    for name in ("config.json", "..complete.json.123", "other.py"):
        (place.files / name).touch()
    staging.prepare(place, {"config.json", "model.safetensors"}, adopt=False)
    assert names(place.staging) == {"files/config.json", "parts/model.safetensors"}


def test_a_damaged_directory_is_taken_back(tmp_path: Path) -> None:
    place = attempt(tmp_path, "a")
    place.directory.mkdir(parents=True)
    (place.directory / "config.json").touch()
    staging.prepare(place, {"config.json"}, adopt=True)
    assert not place.directory.exists()
    assert names(place.staging) == {"files/config.json"}


def test_a_directory_that_somebody_has_just_completed_is_not_taken_back(tmp_path: Path) -> None:
    place = attempt(tmp_path, "a")
    place.directory.mkdir(parents=True)
    (place.directory / "model.safetensors").write_bytes(b"abc")
    marker.write(place.directory, declared())
    staging.prepare(place, {"model.safetensors"}, adopt=True)
    assert marker.of(place, place.directory) is not None
    assert names(place.staging) == set()


@pytest.mark.parametrize("whole", [True, False])
def test_who_is_second_drops_its_own_where_the_first_is_whole(tmp_path: Path, whole: bool) -> None:
    first, second = attempt(tmp_path, "a"), attempt(tmp_path, "b")
    for place, content in ((first, b"one"), (second, b"two")):
        place.files.mkdir(parents=True)
        (place.files / "model.safetensors").write_bytes(content)
    staging.publish(first, declared(), extend=False)
    if not whole:
        (first.directory / "model.safetensors").write_bytes(b"on")
    staging.publish(second, declared(), extend=False)
    assert (first.directory / "model.safetensors").read_bytes() == (b"one" if whole else b"two")
    assert marker.of(first, first.directory) is not None
    assert names(tmp_path / "org--name") == {f"{COMMIT}/model.safetensors", f"{COMMIT}/.complete.json"}
