"""What dead supervisors left goes, what living ones own stays; and files that are read again."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
from pathlib import Path

import pytest

from tritonllm import api
from tritonllm.serve import binary, leftovers, wanted


def hold(shared: Path, temporary: Path, report: multiprocessing.connection.Connection) -> None:
    with leftovers.claim(shared, temporary) as claim:
        (shared / f"{claim.region_prefix}1").touch()
        (shared / f"sem.{claim.region_prefix}mp-1").touch()
        (claim.directory / "log").touch()
        report.send(claim.name)
        signal.pause()


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    return shared, temporary


@pytest.fixture
def owner(places: tuple[Path, Path]):
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(*places, send))
    process.start()
    assert receive.poll(30)
    yield process, receive.recv()
    process.kill()
    process.join(10)
    receive.close()
    send.close()


def test_what_a_living_owner_has_stays(places: tuple[Path, Path], owner: tuple) -> None:
    shared, temporary = places
    leftovers.sweep(shared, temporary)
    assert len(list(shared.iterdir())) == 3
    assert (temporary / owner[1] / "log").exists()


def test_what_a_killed_owner_had_goes(places: tuple[Path, Path], owner: tuple) -> None:
    shared, temporary = places
    owner[0].kill()
    owner[0].join(10)
    leftovers.sweep(shared, temporary)
    assert list(shared.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_strangers_files_stay(places: tuple[Path, Path]) -> None:
    shared, temporary = places
    (shared / "psm_1234").touch()
    with leftovers.claim(shared, temporary):
        pass
    assert [path.name for path in shared.iterdir()] == ["psm_1234"]


def test_nothing_stays_after_the_block(places: tuple[Path, Path]) -> None:
    shared, temporary = places
    with leftovers.claim(shared, temporary) as claim:
        (shared / f"{claim.region_prefix}1").touch()
        (shared / f"sem.{claim.region_prefix}mp-1").touch()
        (claim.directory / "repository").mkdir()
    assert list(shared.iterdir()) == list(temporary.iterdir()) == []


def test_many_supervisors_may_start_at_the_same_time(places: tuple[Path, Path]) -> None:
    names: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        for _ in range(20):
            together.wait(10)
            with leftovers.claim(*places) as claim:
                assert claim.directory.is_dir()
                names.append(claim.name)
                together.wait(10)
                assert claim.directory.is_dir()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(names)) == 160


def test_several_processes_may_prepare_the_backend_at_once(tmp_path: Path) -> None:
    backends, stub = tmp_path / "backends", tmp_path / "stub"
    (backends / "python").mkdir(parents=True)
    (backends / "python" / "libtriton_python.so").write_text("library")
    stub.write_text("program")
    found = binary.Binary(tmp_path / "tritonserver", backends=backends, bundled=True, stub=stub)
    made: set[Path | None] = set()
    threads = [
        threading.Thread(target=lambda: made.add(binary.prepare(found, tmp_path / "cache"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    directory = made.pop()
    assert not made
    assert directory is not None
    assert os.access(directory / "python" / "stub", os.X_OK)
    assert (directory / "python" / "libtriton_python.so").exists()
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


class Loads:
    """A loader of files that counts, and fails on demand."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    def __call__(self, paths: object) -> list[api.LLMEndpoint]:
        self.count += 1
        if self.error:
            raise self.error
        return []


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A file as a mounted ConfigMap shows it: a link to a directory that is swapped."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "endpoints.json").write_text(name)
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "endpoints.json").symlink_to("data/endpoints.json")
    return tmp_path / "endpoints.json"


def swap(link: Path) -> None:
    (link.parent / "next").symlink_to("new")
    (link.parent / "next").rename(link.parent / "data")


def test_files_are_read_again_only_when_they_change(link: Path) -> None:
    loads = Loads()
    watched = wanted.Files([link], loads, [], pytest.fail)
    watched.endpoints()
    assert loads.count == 0
    swap(link)
    watched.endpoints()
    watched.endpoints()
    assert loads.count == 1


def test_files_that_became_wrong_are_reported_once_and_the_last_good_ones_count(link: Path) -> None:
    loads, told = Loads(), []
    loads.error = ValueError("spec.model: is required")
    last_good: list[api.LLMEndpoint] = []
    watched = wanted.Files([link], loads, last_good, told.append)
    swap(link)
    assert watched.endpoints() is watched.endpoints() is last_good
    assert len(told) == 1
    assert "spec.model: is required" in told[0]
