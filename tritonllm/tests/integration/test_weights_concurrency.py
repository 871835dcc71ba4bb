"""Many processes on one cache: they download once, and are right even where locks do nothing."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub_faults
import weights_files
from integration import syncing
from tritonllm.weights import lock, progress, selection, staging

FILES = weights_files.model(3_000_000, shards=6)
NEEDED = weights_files.needed(FILES)


@pytest.fixture
def setup() -> Iterator[syncing.Setup]:
    with syncing.running() as found:
        found.server.add(syncing.REPO, FILES)
        yield found


def outcomes(children: list[syncing.Child]) -> list[tuple[str, str] | None]:
    for child in children:
        child.go()
    return [child.result() for child in children]


def check(setup: syncing.Setup, found: list[tuple[str, str] | None]) -> None:
    (published,) = setup.cache.published()
    assert found == [("published", str(published.directory))] * len(found)
    assert syncing.content(published.directory) == NEEDED
    assert setup.leftovers() == []


def test_eight_processes_download_once(setup: syncing.Setup) -> None:
    check(setup, outcomes([syncing.Child(setup) for _ in range(8)]))
    times = Counter(request.path for request in setup.downloads())
    assert set(times.values()) == {1}
    assert len(setup.server.asked("*/tree/*")) == 1


def test_without_locks_everybody_gets_the_right_bytes(setup: syncing.Setup) -> None:
    setup.server.fault("*.safetensors", hub_faults.slow(0.05))
    children = [syncing.Child(setup, locks=False, silent_seconds=3) for _ in range(3)]
    check(setup, outcomes(children))


def test_without_locks_what_was_left_is_taken_over_by_one(setup: syncing.Setup) -> None:
    setup.server.fault("*.safetensors", hub_faults.cut(100_000))
    setup.server.fault("*.safetensors", hub_faults.no_range)
    with pytest.raises(Exception, match="can't be reached"):
        setup.sync(max_wait_seconds=0.1)
    setup.server.heal()
    setup.server.fault("*.safetensors", hub_faults.slow(0.05))
    setup.server.requests.clear()
    children = [syncing.Child(setup, locks=False, silent_seconds=3) for _ in range(2)]
    check(setup, outcomes(children))
    ranges = [request.headers.get("range") for request in setup.downloads("*.safetensors")]
    assert None in ranges
    assert set(ranges) != {None}


def test_a_live_download_whose_files_were_taken_for_dead_publishes_nothing_wrong(
    setup: syncing.Setup,
) -> None:
    setup.server.fault("*.safetensors", hub_faults.slow(0.1))
    slow = syncing.Child(setup, locks=False)
    slow.go()
    while not any(place.parts.is_dir() for place in setup.cache.staged()):
        pass
    # So short a silence takes every download for dead.
    hasty = syncing.Child(setup, locks=False, silent_seconds=0)
    hasty.go()
    found = [slow.result(), hasty.result()]
    assert found[1] is not None
    assert found[1][0] == "published"
    assert found[0] is not None
    assert found[0][0] in ("published", "NotWritable")
    assert syncing.content(setup.sync().directory) == NEEDED


def test_a_file_system_without_locks_is_good_enough(
    setup: syncing.Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    assert setup.sync().downloaded
    assert setup.leftovers() == []


def test_a_lock_whose_holder_was_killed_is_taken_over(setup: syncing.Setup) -> None:
    awake = threading.Event()
    setup.server.fault("*/model-00001*", hub_faults.stall(awake), 1)
    holder = syncing.Child(setup)
    holder.go()
    while not setup.downloads("model-00001*"):
        pass
    waiting = threading.Thread(target=setup.sync)
    waiting.start()
    while not any("another process downloads it" in sentence for sentence in setup.said):
        assert waiting.is_alive()
    holder.kill()
    waiting.join()
    awake.set()
    assert syncing.content(setup.sync().directory) == NEEDED
    assert setup.leftovers() == []


def test_a_holder_that_writes_nothing_is_not_waited_for(
    setup: syncing.Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritonllm.weights.sync._HOLDER_SILENT_SECONDS", 0.1)
    commit = setup.server.repositories[syncing.REPO].revisions["main"]
    with lock.exclusive(setup.cache.snapshot(syncing.REPO, commit).lock, lambda: False):
        assert setup.sync().downloaded
    assert setup.leftovers() == []


def test_who_wanted_more_than_the_faster_one_gets_it(
    setup: syncing.Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, rivals = staging.publish, [selection.Wanted()]

    def overtaken(*arguments: object, **settings: bool) -> None:
        if rivals:
            monkeypatch.setattr(lock.fcntl, "flock", lambda descriptor, operation: None)
            setup.sync(wanted=rivals.pop())
        publish(*arguments, **settings)  # pyright: ignore

    monkeypatch.setattr(progress, "_PERIOD_SECONDS", 0.001)
    monkeypatch.setattr(staging, "_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(staging, "publish", overtaken)
    published = setup.sync(wanted=selection.Wanted(remote_code=True))
    assert published.downloaded
    assert syncing.content(published.directory) == weights_files.needed(FILES, code=True)
    assert setup.leftovers() == []


def test_two_repositories_do_not_wait_for_each_other(setup: syncing.Setup, tmp_path: Path) -> None:
    commit = setup.server.repositories[syncing.REPO].revisions["main"]
    other = setup.cache.snapshot("org/other", commit)
    with lock.exclusive(other.lock, lambda: False):
        assert setup.sync().downloaded
    assert setup.said == []
