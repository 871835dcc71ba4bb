"""What `weights list` shows of a cache, whatever else goes on in it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
import threading
from pathlib import Path

import caches
import pytest
from caches import LATER, NOW, REPO

from tritonllm.weights import inventory, layout, progress

STATE = progress.State(REPO, caches.commit("a"), 5, 10, 1.0, 0, 1, "", 3)


@pytest.fixture
def cache(tmp_path: Path) -> layout.Cache:
    return layout.Cache(tmp_path / "cache")


def only(cache: layout.Cache, now: datetime.datetime = NOW) -> inventory.Entry:
    (entry,) = inventory.entries(cache, now)
    return entry


def test_a_complete_commit_shows_what_it_takes_and_who_points_to_it(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache, revision="main")
    cache.ref(REPO, "refs/pr/1").write_text(snapshot.commit)
    cache.ref(REPO, "v2").write_text(caches.commit("b"))
    (snapshot.home / "refs" / ".main.0123").write_text(snapshot.commit)
    used = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    os.utime(snapshot.directory / layout.MARKER, (0, used.timestamp()))
    entry = only(cache)
    assert (entry.repo, entry.commit, entry.state) == (REPO, snapshot.commit, "complete")
    assert (entry.revisions, entry.files, entry.used) == (("main", "refs/pr/1"), 2, used)
    assert entry.size == sum(path.stat().st_size for path in snapshot.directory.glob("[a-z]*"))
    assert not entry.in_use
    assert entry.progress is None


def test_a_cache_that_is_not_there_is_empty(cache: layout.Cache) -> None:
    assert inventory.entries(cache, NOW) == []


def test_a_cache_may_be_reached_through_a_link(cache: layout.Cache, tmp_path: Path) -> None:
    caches.publish(cache)
    (tmp_path / "link").symlink_to(cache.root)
    assert only(layout.Cache(tmp_path / "link")).state == "complete"


def test_a_directory_without_a_marker_is_incomplete(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache)
    (snapshot.directory / layout.MARKER).unlink()
    assert only(cache).state == "incomplete"


def test_a_download_that_goes_on_says_how_far_it_is(cache: layout.Cache) -> None:
    place = caches.stage(cache)
    place.progress.write_text(json.dumps(dataclasses.asdict(STATE)))
    os.utime(place.progress, (NOW.timestamp(), NOW.timestamp()))
    entry = only(cache)
    assert (entry.state, entry.progress, entry.size, entry.in_use) == ("downloading", STATE, 4, True)


def test_a_download_that_was_killed_is_incomplete(cache: layout.Cache) -> None:
    place = caches.stage(cache)
    place.progress.write_text(json.dumps(dataclasses.asdict(STATE)))
    entry = only(cache, LATER)
    assert (entry.state, entry.progress, entry.in_use) == ("incomplete", None, False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"repo": 1}'])
def test_a_progress_that_makes_no_sense_is_no_progress(cache: layout.Cache, content: str) -> None:
    caches.stage(cache).progress.write_text(content)
    assert only(cache).progress is None


def test_a_download_that_holds_its_lock_goes_on_although_it_says_nothing(cache: layout.Cache) -> None:
    place = caches.stage(cache)
    with caches.child(caches.DOWNLOADING, place.lock):
        assert only(cache).state == "downloading"
    assert only(cache).state == "incomplete"


def test_a_commit_that_is_served_by_another_process_is_in_use(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache)
    with caches.child(caches.SERVING, snapshot.directory):
        assert only(cache).in_use
        assert only(cache).state == "complete"
    assert not only(cache).in_use


def test_attempts_at_one_commit_are_one_entry(cache: layout.Cache) -> None:
    caches.publish(cache)
    caches.stage(cache)
    caches.stage(cache, attempt="1")
    assert only(cache).state == "complete"


def test_looking_leaves_no_trace(cache: layout.Cache) -> None:
    caches.publish(cache)
    caches.stage(cache, "b")
    before = sorted(cache.root.rglob("*"))
    inventory.entries(cache, NOW)
    assert sorted(cache.root.rglob("*")) == before


def test_what_vanishes_while_it_is_listed_is_left_out(cache: layout.Cache) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            caches.publish(cache, "a", revision="main")
            caches.stage(cache, "b", attempt="1")
            shutil.rmtree(cache.root)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(200):
            inventory.entries(cache, NOW)
    finally:
        stop.set()
        thread.join()
