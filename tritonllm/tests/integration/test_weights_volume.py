"""Volumes that are full, or that somebody else owns."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub_server
import weights_files
from integration import syncing
from tritonllm.weights import failures, layout

FILES = weights_files.model(6_000_000, shards=3)
NEEDED = weights_files.needed(FILES)
NOBODY = 65534

needs_root = pytest.mark.skipif(
    os.getuid() != 0, reason="only root may become somebody else, or mount a volume"
)


@pytest.fixture
def setup() -> Iterator[syncing.Setup]:
    with syncing.running() as found:
        found.server.add(syncing.REPO, FILES)
        yield found


@pytest.fixture
def small(setup: syncing.Setup, tmp_path: Path) -> Iterator[syncing.Setup]:
    """A volume with room for the files and little more."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted: {made.stderr.strip()}")
    setup.cache = layout.Cache(tmp_path)
    try:
        yield setup
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def ballast(root: Path, free: int) -> Path:
    """Somebody else's file, which leaves so many bytes."""
    found = os.statvfs(root)
    path = root / "ballast"
    path.write_bytes(bytes(found.f_bavail * found.f_frsize - free))
    return path


@needs_root
def test_too_little_room_is_found_before_the_first_byte(small: syncing.Setup) -> None:
    other = ballast(small.cache.root, 2_000_000)
    message = small.fails(failures.DiskFull)
    assert re.search(r"org/name needs 6\.0 MB more and .* has 2\.0 MB free", message)
    assert small.downloads() == []
    other.unlink()
    assert syncing.content(small.sync().directory) == NEEDED


@needs_root
def test_what_is_there_already_needs_no_room(small: syncing.Setup) -> None:
    directory = small.sync().directory
    (directory / ".complete.json").unlink()
    (directory / "config.json").unlink()
    ballast(small.cache.root, 500_000)
    assert syncing.content(small.sync().directory) == NEEDED


@needs_root
def test_a_volume_that_fills_up_meanwhile_is_gone_on_with_later(small: syncing.Setup) -> None:
    other = small.cache.root / "ballast"

    blocks, flooded = itertools.count(), threading.Event()

    def flood() -> None:
        """Takes all the room there is, once, as soon as the first block of the file is written."""
        if next(blocks) != 1:
            return
        while not any(part.stat().st_size for part in small.cache.root.rglob("parts/model-00002*")):
            time.sleep(0.005)
        with contextlib.suppress(OSError), other.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        flooded.set()

    def fill(answer: hub_server.Answer) -> None:
        answer.pause = flood

    small.server.fault("*/model-00002*", fill)
    message = small.fails(failures.DiskFull)
    assert "the volume is full, while writing" in message
    assert "is not fetched again" in message
    assert small.find() is None
    small.server.heal()
    small.server.requests.clear()
    assert flooded.wait(60)
    other.unlink()
    assert syncing.content(small.sync().directory) == NEEDED
    assert all("range" in request.headers for request in small.downloads("model-00002*"))
    assert small.leftovers() == []


@needs_root
def test_a_volume_without_any_room_is_full_and_not_read_only(small: syncing.Setup) -> None:
    ballast(small.cache.root, 0)
    assert "is full" in small.fails(failures.DiskFull)
    assert small.server.requests == []


@pytest.fixture
def open_to_all(setup: syncing.Setup) -> Iterator[syncing.Setup]:
    """A cache in a directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        setup.cache = layout.Cache(Path(directory, "cache"))
        yield setup


def _as_nobody(setup: syncing.Setup) -> tuple[str, str]:
    child = syncing.Child(setup, uid=NOBODY)
    child.go()
    found = child.result()
    assert found is not None
    return found


@needs_root
def test_a_volume_of_somebody_else_names_both(open_to_all: syncing.Setup) -> None:
    root = open_to_all.cache.root
    root.mkdir(mode=0o750)
    reason, message = _as_nobody(open_to_all)
    assert reason == "NotWritable"
    assert f"{root} can't be written: Permission denied" in message
    assert f"This process has uid {NOBODY}, gid {NOBODY}" in message
    assert f"{root} belongs to uid 0, gid 0, mode 0750" in message
    assert "fsGroup" in message
    assert open_to_all.server.requests == []


@needs_root
def test_a_repository_of_somebody_else_in_ones_own_volume_names_both(open_to_all: syncing.Setup) -> None:
    root = open_to_all.cache.root
    open_to_all.cache.home(syncing.REPO).mkdir(parents=True)
    root.chmod(0o777)
    reason, message = _as_nobody(open_to_all)
    assert reason == "NotWritable"
    assert f"{root}/org--name belongs to uid 0, gid 0, mode 0755" in message


@needs_root
def test_a_warm_start_needs_only_to_read(open_to_all: syncing.Setup) -> None:
    directory = open_to_all.sync().directory
    open_to_all.server.requests.clear()
    assert _as_nobody(open_to_all) == ("published", str(directory))
    assert open_to_all.server.requests == []
