"""Killed at any point: the next one goes on, asks for nothing that is there, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hub_faults
import weights_files
from integration import syncing
from tritonllm.weights import selection

FILES = weights_files.model(3_000_000, shards=6)
NEEDED = weights_files.needed(FILES)
CODE = selection.Wanted(remote_code=True)
KILLS = 20


@pytest.fixture
def setup() -> Iterator[syncing.Setup]:
    with syncing.running() as found:
        found.server.add(syncing.REPO, FILES)
        yield found


def whole(setup: syncing.Setup) -> set[str]:
    """Names of files that are finished, published or not."""
    staged = (path for place in setup.cache.staged() for path in place.files.glob("*"))
    published = (path for place in setup.cache.published() for path in place.directory.glob("*"))
    return {path.name for path in (*staged, *published) if path.is_file()}


def check(setup: syncing.Setup) -> None:
    """After the last of them, all is as it should be."""
    published = setup.sync()
    assert syncing.content(published.directory) == NEEDED
    assert setup.leftovers() == []
    assert [place.directory for place in setup.cache.published()] == [published.directory]


def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(setup: syncing.Setup) -> None:
    chance = random.Random(4)
    setup.server.fault("*.safetensors", hub_faults.slow(0.03))
    finished: set[str] = set()
    for _ in range(KILLS):
        setup.server.requests.clear()
        child = syncing.Child(setup)
        child.go()
        time.sleep(chance.uniform(0, 0.3))
        child.kill()
        again = {request.path.rpartition("/")[2] for request in setup.downloads()}
        assert not again & finished
        finished |= whole(setup)
    setup.server.heal()
    setup.server.requests.clear()
    check(setup)
    assert not {request.path.rpartition("/")[2] for request in setup.downloads()} & finished


def changes(setup: syncing.Setup, wanted: selection.Wanted) -> int:
    """How many changes to the cache a whole sync makes."""
    child = syncing.Child(setup, syncing.Asked(wanted=wanted), count=True)
    child.go()
    outcome = child.result()
    assert outcome is not None
    return int(outcome[1])


@pytest.mark.parametrize("wanted", [selection.Wanted(), CODE], ids=["first", "extension"])
def test_killed_before_any_change_to_the_volume_it_ends_with_the_same_bytes(
    setup: syncing.Setup, wanted: selection.Wanted
) -> None:
    root = setup.cache.root

    def fresh(number: int) -> None:
        setup.cache = type(setup.cache)(root / str(number))
        if wanted == CODE:
            setup.sync()

    fresh(0)
    total = changes(setup, wanted)
    assert total > 10
    points = random.Random(5).sample(range(1, total + 1), min(KILLS // 2, total))
    for point in points:
        fresh(point)
        child = syncing.Child(setup, syncing.Asked(wanted=wanted), die_at=point)
        child.go()
        assert child.result() is None
        served = setup.find(wanted=wanted)
        expected = weights_files.needed(FILES, code=wanted == CODE)
        assert served is None or syncing.content(served.directory) == expected
        assert wanted != CODE or setup.find() is not None
        published = setup.sync(wanted=wanted)
        assert syncing.content(published.directory) == expected
        assert [name for name in setup.leftovers() if "probe" not in name] == []


def test_what_is_half_there_is_gone_on_with(setup: syncing.Setup) -> None:
    name = "model-00001-of-00006.safetensors"
    setup.server.fault(f"*/{name}", hub_faults.slow(0.2))
    child = syncing.Child(setup)
    child.go()
    until(lambda: any(path.stat().st_size for path in parts(setup, name)))
    child.kill()
    size = parts(setup, name)[0].stat().st_size
    assert 0 < size < len(FILES[name])
    setup.server.heal()
    setup.server.requests.clear()
    check(setup)
    assert [request.headers["range"] for request in setup.downloads(name)] == [f"bytes={size}-"]


def test_what_is_half_there_and_wrong_is_found_and_fetched_anew(setup: syncing.Setup) -> None:
    name = "model-00001-of-00006.safetensors"
    setup.server.fault(f"*/{name}", hub_faults.slow(0.2))
    child = syncing.Child(setup)
    child.go()
    until(lambda: any(path.stat().st_size for path in parts(setup, name)))
    child.kill()
    (part,) = parts(setup, name)
    part.write_bytes(b"?" * part.stat().st_size)
    setup.server.heal()
    # Wrong bytes from the Hub once on top are still bearable.
    setup.server.fault(f"*/{name}", hub_faults.wrong_bytes, 2)
    check(setup)


def test_an_interrupted_download_ends_soon_and_is_gone_on_with(setup: syncing.Setup) -> None:
    name = "model-00001-of-00006.safetensors"
    setup.server.fault("*.safetensors", hub_faults.slow(0.2))
    child = syncing.Child(setup)
    child.go()
    until(lambda: any(path.stat().st_size for path in parts(setup, name)))
    assert child.process.pid is not None
    os.kill(child.process.pid, signal.SIGINT)
    child.process.join(20)
    assert child.process.exitcode == 1
    assert not list(setup.cache.root.rglob("*.progress.json"))
    setup.server.heal()
    setup.server.requests.clear()
    check(setup)
    assert "range" in setup.downloads(name)[0].headers


def parts(setup: syncing.Setup, name: str) -> list[Path]:
    return [path for place in setup.cache.staged() if (path := place.parts / name).is_file()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
