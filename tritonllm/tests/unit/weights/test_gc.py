"""What `weights gc` removes, and above all what it does not."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import caches
import pytest
from caches import GRACE, LATER, NOW, REPO

from tritonllm.weights import gc, inventory, layout, lock, retention, selection, sync
from tritonllm.weights.retention import Why

HOME = Path("/cache/acme--tiny")
NOBODY = 65534
PLACE = inventory.Place(
    snapshot=layout.Snapshot(REPO, caches.commit("a"), HOME),
    staged=False,
    complete=True,
    size=10,
    files=2,
    used=NOW - 2 * GRACE,
    busy=False,
)
ATTEMPT = layout.Snapshot(REPO, caches.commit("a"), HOME, "." + "1" * 32)
THIS = retention.Needs(commits=frozenset({(HOME, caches.commit("a"))}))
ANOTHER = retention.Needs(commits=frozenset({(HOME, caches.commit("b")), (Path("/cache/b--c"), "a" * 40)}))
ALL_OF_REPO = retention.Needs(homes=frozenset({HOME}))
BY_PATH = retention.Needs(directories=frozenset({HOME / caches.commit("a") / "sub"}))


@pytest.fixture
def cache(tmp_path: Path) -> layout.Cache:
    return layout.Cache(tmp_path / "cache")


def collect(
    cache: layout.Cache,
    needed: retention.Needs = retention.Needs(),  # noqa: B008
    grace: datetime.timedelta = GRACE,
    now: datetime.datetime = LATER,
    dry_run: bool = False,
) -> list[Why]:
    collected = gc.collect(cache, needed, grace, now, dry_run=dry_run)
    assert collected.problems == ()
    assert not any(verdict.problem for verdict in collected.verdicts)
    return [verdict.why for verdict in collected.verdicts]


def source(revision: str = "main", commit: str | None = None) -> sync.Source:
    return sync.Source(REPO, revision, selection.Wanted(), commit)


@pytest.mark.parametrize(
    ("change", "needed", "why"),
    [
        ({}, retention.Needs(), Why.UNNEEDED),
        ({}, ANOTHER, Why.UNNEEDED),
        ({}, THIS, Why.NEEDED),
        ({}, ALL_OF_REPO, Why.NEEDED),
        ({}, BY_PATH, Why.NEEDED),
        ({"busy": True}, retention.Needs(), Why.BUSY),
        ({"used": NOW - GRACE}, retention.Needs(), Why.UNNEEDED),
        ({"used": NOW - GRACE + datetime.timedelta(seconds=1)}, retention.Needs(), Why.RECENT),
        ({"used": NOW + 100 * GRACE}, retention.Needs(), Why.RECENT),
        ({"complete": False}, retention.Needs(), Why.UNNEEDED),
        ({"complete": False}, THIS, Why.NEEDED),
        ({"staged": True}, THIS, Why.ABANDONED),
        ({"staged": True, "complete": False}, THIS, Why.NEEDED),
        ({"staged": True, "complete": False}, retention.Needs(), Why.UNNEEDED),
        ({"staged": True, "complete": False, "snapshot": ATTEMPT}, THIS, Why.NEEDED),
        ({"staged": True, "snapshot": ATTEMPT}, THIS, Why.ABANDONED),
        ({"staged": True, "snapshot": ATTEMPT, "used": NOW}, THIS, Why.RECENT),
        ({"staged": True, "snapshot": ATTEMPT, "busy": True}, THIS, Why.BUSY),
    ],
)
def test_what_stays_and_what_goes(change: dict[str, object], needed: retention.Needs, why: Why) -> None:
    place = dataclasses.replace(PLACE, **change)
    assert retention.decide(place, needed, GRACE, NOW) is why


def test_no_grace_at_all_takes_what_was_used_just_now() -> None:
    just_now = dataclasses.replace(PLACE, used=NOW)
    assert retention.decide(just_now, retention.Needs(), datetime.timedelta(0), NOW) is Why.UNNEEDED


def test_an_endpoint_needs_the_commit_that_its_revision_was_resolved_to(cache: layout.Cache) -> None:
    old, new = caches.publish(cache, "a"), caches.publish(cache, "b", revision="main")
    needed = retention.needs(cache, [source()])
    assert (needed.cover(old), needed.cover(new)) == (False, True)


def test_an_endpoint_with_a_commit_of_its_own_needs_that_one(cache: layout.Cache) -> None:
    old, new = caches.publish(cache, "a"), caches.publish(cache, "b", revision="main")
    for pinned in (source(commit=old.commit), source(revision=old.commit)):
        needed = retention.needs(cache, [pinned])
        assert (needed.cover(old), needed.cover(new)) == (True, False)


def test_an_endpoint_whose_commit_nobody_knows_needs_all_of_its_repository(cache: layout.Cache) -> None:
    caches.publish(cache, "a")
    caches.publish(cache, "b")
    caches.publish(cache, "c", repo="acme/other")
    assert collect(cache, retention.needs(cache, [source()])) == [Why.UNNEEDED, Why.NEEDED, Why.NEEDED]
    assert [snapshot.repo for snapshot in cache.published()] == [REPO, REPO]


def test_two_dashes_in_a_name_do_not_hide_what_is_needed(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache, repo="acme--x/tiny")
    needed = retention.needs(cache, [sync.Source("acme--x/tiny", snapshot.commit, selection.Wanted())])
    assert collect(cache, needed) == [Why.NEEDED]


@pytest.mark.parametrize("path", ["link", "acme--tiny", f"acme--tiny/{caches.commit('a')}"])
def test_what_an_endpoint_serves_by_its_path_is_needed(cache: layout.Cache, path: str) -> None:
    snapshot = caches.publish(cache)
    (cache.root / "link").symlink_to(snapshot.directory)
    assert collect(cache, retention.needs(cache, [], [cache.root / path])) == [Why.NEEDED]


def test_what_nobody_needs_is_gone_from_the_disk_with_what_points_to_it(cache: layout.Cache) -> None:
    gone, kept = caches.publish(cache, "a", revision="old"), caches.publish(cache, "b", revision="main")
    needed = retention.needs(cache, [source()])
    collected = gc.collect(cache, needed, GRACE, LATER)
    assert [(verdict.why, verdict.goes) for verdict in collected.verdicts] == [
        (Why.UNNEEDED, True),
        (Why.NEEDED, False),
    ]
    assert collected.size == collected.verdicts[0].place.size > 0
    assert not gone.directory.exists()
    assert list(cache.trash.iterdir()) == []
    assert sync.find(cache, source()) is not None
    assert (cache.recorded(REPO, "old"), cache.recorded(REPO, "main")) == (None, kept.commit)


def test_a_dry_run_says_the_same_and_changes_nothing(cache: layout.Cache) -> None:
    caches.publish(cache, "a", revision="old")
    caches.stage(cache, "b", attempt="1")
    (cache.trash / "earlier").mkdir(parents=True)
    before = sorted(cache.root.rglob("*"))
    said = collect(cache, dry_run=True)
    assert sorted(cache.root.rglob("*")) == before
    assert collect(cache) == said == [Why.UNNEEDED, Why.UNNEEDED]


def test_what_was_used_lately_stays(cache: layout.Cache) -> None:
    caches.publish(cache)
    assert collect(cache, now=NOW) == [Why.RECENT]


def test_a_last_use_in_the_future_is_no_reason_to_remove(cache: layout.Cache) -> None:
    marked = caches.publish(cache).directory / layout.MARKER
    os.utime(marked, (0, (LATER + GRACE).timestamp()))
    assert collect(cache) == [Why.RECENT]


def test_a_directory_that_is_being_filled_is_as_young_as_its_youngest_file(cache: layout.Cache) -> None:
    directory = caches.fill(cache.home(REPO) / caches.commit("a"))
    for path in (*directory.iterdir(), directory):
        # As rsync does it.
        os.utime(path, (0, 0))
    assert collect(cache, now=NOW) == [Why.RECENT]
    assert collect(cache) == [Why.UNNEEDED]


def test_what_another_process_serves_stays(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache)
    with caches.child(caches.SERVING, snapshot.directory):
        assert collect(cache) == [Why.BUSY]
        assert sync.find(cache, source(commit=snapshot.commit)) is not None
    assert collect(cache) == [Why.UNNEEDED]


def test_a_look_at_the_wrong_moment_does_not_leave_weights_unprotected(cache: layout.Cache) -> None:
    directory = caches.publish(cache).directory
    serving, leave = threading.Event(), threading.Event()

    def serve() -> None:
        with lock.in_use(directory):
            serving.set()
            leave.wait()

    thread = threading.Thread(target=serve)
    with lock_of(directory):
        thread.start()
        assert not serving.wait(0.1)
    assert serving.wait(30)
    assert lock.is_used(directory)
    leave.set()
    thread.join()


@contextlib.contextmanager
def lock_of(directory: Path) -> Iterator[None]:
    """What `is_used` holds while it looks."""
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def test_a_trash_that_leads_elsewhere_is_not_emptied(cache: layout.Cache, tmp_path: Path) -> None:
    outside = caches.fill(tmp_path / "outside")
    cache.root.mkdir()
    cache.trash.symlink_to(outside)
    assert collect(cache) == []
    assert len(list(outside.iterdir())) == 6


def test_a_download_of_what_is_complete_by_now_is_swept_although_it_is_needed(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache, revision="main")
    caches.stage(cache, attempt="1")
    assert collect(cache, retention.needs(cache, [source()])) == [Why.NEEDED, Why.ABANDONED]
    assert cache.recorded(REPO, "main") == snapshot.commit
    assert list(cache.staged()) == []


def test_a_download_that_was_interrupted_waits_for_who_needs_it(cache: layout.Cache) -> None:
    place = caches.stage(cache, attempt="1")
    assert collect(cache, retention.needs(cache, [source(commit=place.commit)])) == [Why.NEEDED]
    assert (place.parts / "model.safetensors").exists()


def test_what_another_process_downloads_stays(cache: layout.Cache) -> None:
    place = caches.stage(cache)
    with caches.child(caches.DOWNLOADING, place.lock):
        assert collect(cache) == [Why.BUSY]
        assert (place.parts / "model.safetensors").exists()
    assert collect(cache) == [Why.UNNEEDED]


def test_a_download_that_says_how_far_it_is_stays_where_there_are_no_locks(cache: layout.Cache) -> None:
    place = caches.stage(cache, attempt="1")
    state = '{"repo": "", "commit": "", "bytes_done": 0, "bytes_total": 0, "bytes_per_second": 0,'
    place.progress.write_text(state + '"files_done": 0, "files_total": 0, "message": "", "beat": 1}')
    os.utime(place.progress, (NOW.timestamp(), NOW.timestamp()))
    assert collect(cache, grace=datetime.timedelta(0), now=NOW) == [Why.BUSY]
    assert collect(cache) == [Why.UNNEEDED]
    assert list(place.staging.parent.iterdir()) == []


def test_what_changes_between_the_look_and_the_deed_stays(
    cache: layout.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = caches.publish(cache)
    decide = retention.decide

    def use_it(*arguments: object) -> Why:
        why = decide(*arguments)  # type: ignore[arg-type]
        os.utime(snapshot.directory / layout.MARKER, (0, LATER.timestamp()))
        return why

    monkeypatch.setattr(retention, "decide", use_it)
    assert collect(cache) == [Why.RECENT]
    assert sync.find(cache, source(commit=snapshot.commit)) is not None


def test_a_download_that_begins_between_the_look_and_the_deed_goes_on(
    cache: layout.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = caches.stage(cache, attempt="1")
    decide = retention.decide
    with contextlib.ExitStack() as download:

        def begin(*arguments: object) -> Why:
            why = decide(*arguments)  # type: ignore[arg-type]
            download.enter_context(lock.exclusive(place.lock, lambda: False))
            return why

        monkeypatch.setattr(retention, "decide", begin)
        assert collect(cache) == [Why.BUSY]
    assert (place.parts / "model.safetensors").exists()


def test_nothing_behind_a_link_is_ever_touched(cache: layout.Cache, tmp_path: Path) -> None:
    outside = caches.fill(tmp_path / "outside")
    outside.chmod(0o555)
    snapshot = caches.publish(cache)
    (snapshot.directory / "linked").symlink_to(outside)
    (snapshot.directory / "linked.json").symlink_to(outside / "config.json")
    (snapshot.home / caches.commit("b")).symlink_to(outside)
    (snapshot.home / ".staging").mkdir()
    (snapshot.home / ".staging" / caches.commit("c")).symlink_to(outside)
    (cache.root / "acme--linked").symlink_to(outside)
    (cache.root / "acme--home").mkdir()
    (cache.root / "acme--home" / ".staging").symlink_to(outside)
    (outside / caches.commit("d")).mkdir()
    before = sorted(outside.rglob("*"))
    (cache.root / ".trash").symlink_to(outside)
    assert collect(cache) == [Why.UNNEEDED]
    assert not snapshot.directory.exists()
    assert sorted(outside.rglob("*")) == before
    assert outside.stat().st_mode & 0o777 == 0o555
    outside.chmod(0o755)


def test_what_is_not_ours_stays(cache: layout.Cache) -> None:
    others = [
        caches.fill(cache.root / "my-model"),
        caches.fill(cache.root / "acme--files"),
        caches.fill(cache.root / "models--acme--tiny" / "snapshots" / caches.commit("a")),
        caches.fill(cache.home(REPO) / f"{caches.commit('a')}.bak"),
        caches.fill(cache.home(REPO) / caches.commit("A")),
        caches.fill(cache.home(REPO) / ".staging" / "notes"),
        caches.fill(cache.root / caches.commit("a")),
    ]
    assert collect(cache) == []
    assert all(len(list(other.iterdir())) == 6 for other in others)


def test_a_thousand_leftovers_are_swept(cache: layout.Cache) -> None:
    staging = caches.stage(cache).staging.parent
    for number in range(1000):
        (staging / f"{caches.commit('b')}.{number:032x}.progress.json").touch()
    for number in range(100):
        (staging / f"{caches.commit('c')}.{number:032x}").mkdir()
    assert len(collect(cache)) == 1101
    assert list(staging.iterdir()) == []
    assert list(cache.trash.iterdir()) == []


def test_what_an_interrupted_run_moved_aside_is_unlinked(cache: layout.Cache) -> None:
    caches.fill(cache.trash / "earlier")
    (cache.trash / "file").touch()
    assert collect(cache) == []
    assert list(cache.trash.iterdir()) == []


def test_two_at_once_do_not_stumble_over_each_other(cache: layout.Cache) -> None:
    for digit in "0123456789abcdef":
        caches.publish(cache, digit)
        for number in range(20):
            caches.fill(cache.trash / f"{digit}{number}" / "deep")
    found: list[gc.Collected] = []
    threads = [
        threading.Thread(target=lambda: found.append(gc.collect(cache, retention.Needs(), GRACE, LATER)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [collected.problems for collected in found] == [()] * 4
    assert not any(verdict.problem for collected in found for verdict in collected.verdicts)
    assert list(cache.published()) == []
    assert list(cache.trash.iterdir()) == []


@contextlib.contextmanager
def ordinary_user(directory: Path) -> Iterator[None]:
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    for path in (directory, *directory.rglob("*")):
        os.chown(path, NOBODY, -1, follow_symlinks=False)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def users_cache() -> Iterator[layout.Cache]:
    # Other users can't enter pytest's own directory.
    directory = Path(tempfile.mkdtemp(prefix="tritonllm-test-"))
    yield layout.Cache(directory)
    shutil.rmtree(directory)


def test_what_came_read_only_from_an_archive_goes_as_well(users_cache: layout.Cache) -> None:
    snapshot = caches.publish(users_cache)
    deep = caches.fill(snapshot.directory / "deep" / "er")
    with ordinary_user(users_cache.root):
        for path in (*deep.iterdir(), deep, deep.parent, snapshot.directory):
            path.chmod(0o500 if path.is_dir() else 0o400)
        deep.chmod(0)
        assert collect(users_cache) == [Why.UNNEEDED]
    assert not snapshot.directory.exists()
    assert list(users_cache.trash.iterdir()) == []


def test_what_can_not_be_removed_is_told_and_the_rest_goes(users_cache: layout.Cache) -> None:
    stuck = caches.publish(users_cache, repo="acme/stuck")
    caches.publish(users_cache, repo="acme/tiny")
    with ordinary_user(users_cache.root):
        # Its owner can't give the names in it away.
        stuck.lock.parent.mkdir()
        stuck.home.chmod(0o500)
        collected = gc.collect(users_cache, retention.Needs(), GRACE, LATER)
        stuck.home.chmod(0o700)
    problem, fine = collected.verdicts
    assert not problem.goes
    assert problem.problem == f"{stuck.directory} can't be removed: Permission denied"
    assert fine.goes
    assert stuck.directory.exists()


def test_what_may_not_be_looked_at_is_left_alone(users_cache: layout.Cache) -> None:
    snapshot = caches.publish(users_cache)
    with ordinary_user(users_cache.root):
        snapshot.directory.chmod(0)
        assert collect(users_cache) == [Why.BUSY]
        snapshot.directory.chmod(0o700)
