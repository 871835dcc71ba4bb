"""What dead supervisors left goes, what living ones own stays; and files that are read again."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
from pathlib import Path

import pytest

from tritonllm import files
from tritonllm.serve import binaries, desired, stale_runs


def hold(shared: Path, temporary: Path, report: multiprocessing.connection.Connection) -> None:
    with stale_runs.acquire(shared, temporary) as run_lock:
        (shared / f"{run_lock.region_prefix}1").touch()
        (shared / f"sem.{run_lock.region_prefix}mp-1").touch()
        (run_lock.directory / "log").touch()
        report.send(run_lock.name)
        signal.pause()


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    return shared, temporary


@pytest.fixture
def owner(directories: tuple[Path, Path]):
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(*directories, send))
    process.start()
    assert receive.poll(30)
    yield process, receive.recv()
    process.kill()
    process.join(10)
    receive.close()
    send.close()


def test_what_a_living_owner_has_stays(directories: tuple[Path, Path], owner: tuple) -> None:
    shared, temporary = directories
    stale_runs.clean_stale_runs(shared, temporary)
    assert len(list(shared.iterdir())) == 3
    assert (temporary / owner[1] / "log").exists()


def test_what_a_killed_owner_had_goes(directories: tuple[Path, Path], owner: tuple) -> None:
    shared, temporary = directories
    owner[0].kill()
    owner[0].join(10)
    stale_runs.clean_stale_runs(shared, temporary)
    assert list(shared.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_strangers_files_stay(directories: tuple[Path, Path]) -> None:
    shared, temporary = directories
    (shared / "psm_1234").touch()
    with stale_runs.acquire(shared, temporary):
        pass
    assert [path.name for path in shared.iterdir()] == ["psm_1234"]


@pytest.mark.parametrize(
    "name",
    ["tritonllm-*-owner", "tritonllm-[0-9a-f]-owner", "tritonllm-..-owner", "tritonllm-0123456789AB-owner"],
)
def test_a_lock_file_that_no_supervisor_made_removes_nothing(
    directories: tuple[Path, Path], name: str
) -> None:
    shared, temporary = directories
    running = shared / "tritonllm-0123456789ab-region-1"
    for file in (shared / name, running):
        file.touch()
    stale_runs.clean_stale_runs(shared, temporary)
    assert running.exists()
    assert (shared / name).exists()


def test_nothing_stays_after_the_block(directories: tuple[Path, Path]) -> None:
    shared, temporary = directories
    with stale_runs.acquire(shared, temporary) as run_lock:
        (shared / f"{run_lock.region_prefix}1").touch()
        (shared / f"sem.{run_lock.region_prefix}mp-1").touch()
        (run_lock.directory / "repository").mkdir()
    assert list(shared.iterdir()) == list(temporary.iterdir()) == []


def test_many_supervisors_may_start_at_the_same_time(directories: tuple[Path, Path]) -> None:
    names: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        for _ in range(20):
            together.wait(60)
            with stale_runs.acquire(*directories) as run_lock:
                assert run_lock.directory.is_dir()
                names.append(run_lock.name)
                together.wait(60)
                assert run_lock.directory.is_dir()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(set(names)) == 160


def test_several_processes_may_prepare_the_backend_at_once(tmp_path: Path) -> None:
    backends, stub = tmp_path / "backends", tmp_path / "stub"
    (backends / "python").mkdir(parents=True)
    (backends / "python" / "libtriton_python.so").write_text("library")
    stub.write_text("program")
    found = binaries.Binary(tmp_path / "tritonserver", backends=backends, bundled=True, stub=stub)
    made: set[Path | None] = set()
    threads = [
        threading.Thread(target=lambda: made.add(binaries.prepare(found, tmp_path / "cache")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
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

    def __call__(self, paths: object, former: object) -> files.Readable:
        self.count += 1
        if self.error:
            raise self.error
        return files.Readable([], {})


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
    watched = desired.EndpointFiles([link], loads, pytest.fail)
    watched.endpoints()
    assert loads.count == 1
    swap(link)
    watched.endpoints()
    watched.endpoints()
    assert loads.count == 2


def test_files_that_became_wrong_are_reported_once_and_the_last_good_ones_count(link: Path) -> None:
    loads, told = Loads(), []
    watched = desired.EndpointFiles([link], loads, told.append)
    last_good = watched.endpoints()
    loads.error = ValueError("spec.model: is required")
    swap(link)
    assert watched.endpoints() is watched.endpoints() is last_good
    assert len(told) == 1
    assert "spec.model: is required" in told[0]
