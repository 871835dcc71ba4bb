"""Weights that come as they should: where they are, what is asked of the Hub, and what is not."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import hub_faults
import hub_server
import weights_files
from integration import syncing
from tritonllm.weights import failures, marker, progress, selection

FILES = weights_files.model()
NEEDED = weights_files.needed(FILES)
CODE = selection.Wanted(remote_code=True)


@pytest.fixture
def setup() -> Iterator[syncing.Setup]:
    with syncing.running() as found:
        yield found


def test_files_are_published_under_their_commit_and_marked(setup: syncing.Setup) -> None:
    commit = setup.server.add(syncing.REPO, FILES)
    published = setup.sync()
    assert published.directory == setup.cache.root / "org--name" / commit
    assert (published.commit, published.downloaded) == (commit, True)
    assert published.size == sum(map(len, NEEDED.values()))
    assert syncing.content(published.directory) == NEEDED
    found = marker.read(published.directory)
    assert found is not None
    assert [file.path for file in found.files] == sorted(NEEDED)
    assert found.format == "safetensors"
    assert not any(path.is_symlink() for path in published.directory.rglob("*"))
    assert setup.leftovers() == []


def test_digests_in_the_marker_are_those_of_the_files(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    found = marker.read(setup.sync().directory)
    assert found is not None
    known = setup.server.repositories[syncing.REPO].commits[found.commit]
    large = {path: file.sha256 for path, file in known.items() if file.sha256}
    assert len(large) > 3
    assert {file.path: file.sha256 for file in found.files if file.path in large} == {
        path: large[path] for path in large if path in NEEDED
    }


def test_a_cold_start_asks_for_nothing_twice(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    setup.sync()
    paths = [request.path for request in setup.server.requests]
    # An empty file needs no request.
    assert len(paths) == len(set(paths)) == 2 + len(NEEDED) - 1
    assert {request.method for request in setup.server.requests} == {"GET"}


@pytest.mark.parametrize("revision", ["main", "commit", "by somebody else"])
def test_a_warm_start_asks_nobody(setup: syncing.Setup, revision: str) -> None:
    commit = setup.server.add(syncing.REPO, FILES)
    name = commit if revision == "commit" else "main"
    known = commit if revision == "by somebody else" else None
    first = setup.sync(name, commit=known)
    setup.server.requests.clear()
    again = setup.sync(name, commit=known)
    assert setup.server.requests == []
    assert (again.directory, again.downloaded) == (first.directory, False)


def test_a_warm_start_notes_that_it_was_used(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    directory = setup.sync().directory
    os.utime(directory / ".complete.json", (0, 0))
    setup.sync()
    used = marker.used(directory)
    assert used is not None
    assert used.year > 2000


def test_a_commit_is_not_resolved(setup: syncing.Setup) -> None:
    commit = setup.server.add(syncing.REPO, FILES)
    setup.sync(commit)
    assert setup.server.asked("/api/models/*/revision/*") == []


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", "größe und mehr"])
def test_a_revision_is_recorded_under_its_name(setup: syncing.Setup, revision: str) -> None:
    commit = setup.server.add(syncing.REPO, FILES, revision)
    setup.sync(revision)
    assert setup.cache.recorded(syncing.REPO, revision) == commit
    assert setup.find(revision) is not None


def test_what_somebody_else_resolved_is_not_recorded_here(setup: syncing.Setup) -> None:
    commit = setup.server.add(syncing.REPO, FILES)
    setup.sync(commit=commit)
    assert setup.cache.recorded(syncing.REPO, "main") is None


def test_a_branch_stays_where_it_was_until_a_refresh(setup: syncing.Setup) -> None:
    old = setup.server.add(syncing.REPO, FILES)
    setup.sync()
    new = setup.server.add(syncing.REPO, FILES | {"config.json": b'{"new": 1}'})
    assert setup.sync().commit == old
    assert setup.sync(refresh=True).commit == new
    assert setup.sync().commit == new
    assert setup.find(old) is not None


def test_an_endpoint_can_ask_for_a_refresh_until_it_is_at_a_commit(setup: syncing.Setup) -> None:
    old = setup.server.add(syncing.REPO, FILES)
    setup.sync()
    new = setup.server.add(syncing.REPO, FILES | {"config.json": b'{"new": 1}'})
    assert setup.sync(commit=old, requested=True).commit == old
    assert setup.sync(requested=True).commit == new


def test_a_refresh_of_what_did_not_move_asks_once(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    setup.sync()
    setup.server.requests.clear()
    assert not setup.sync(refresh=True).downloaded
    assert len(setup.server.requests) == 1


def test_a_refresh_of_a_commit_asks_nobody(setup: syncing.Setup) -> None:
    commit = setup.server.add(syncing.REPO, FILES)
    setup.sync(commit)
    setup.server.requests.clear()
    setup.sync(commit, refresh=True)
    assert setup.server.requests == []


def test_a_refresh_that_fails_leaves_the_old_commit_served(setup: syncing.Setup) -> None:
    old = setup.server.add(syncing.REPO, FILES)
    setup.sync()
    setup.server.add(syncing.REPO, FILES | {"model-00001-of-00003.safetensors": b"?" * 5000})
    setup.fails(failures.Corrupt, refresh=True)
    assert setup.sync().commit == old


def test_a_download_that_was_interrupted_goes_on_with_its_commit(setup: syncing.Setup) -> None:
    old = setup.server.add(syncing.REPO, FILES)
    setup.server.fault("*/config.json", hub_faults.status(500))
    setup.fails(failures.HubUnreachable, max_wait_seconds=0.1)
    setup.server.heal()
    setup.server.add(syncing.REPO, FILES | {"config.json": b'{"new": 1}'})
    assert setup.sync().commit == old


def test_a_branch_that_moves_during_the_download_does_not_mix_commits(setup: syncing.Setup) -> None:
    old = setup.server.add(syncing.REPO, FILES)
    other = weights_files.model(shards=3) | {"config.json": b'{"new": 1}'}

    def push(answer: hub_server.Answer) -> None:
        setup.server.add(syncing.REPO, other)

    setup.server.fault("*/tree/*", push)
    published = setup.sync()
    assert published.commit == old
    assert syncing.content(published.directory) == NEEDED


def test_a_commit_that_was_removed_from_the_hub_does_not_stick(setup: syncing.Setup) -> None:
    old = setup.server.add(syncing.REPO, FILES)
    repository = setup.server.repositories[syncing.REPO]

    def force_push(answer: object) -> None:
        del repository.commits[old]
        setup.server.add(syncing.REPO, FILES | {"config.json": b'{"new": 1}'})

    setup.server.fault("*/revision/*", force_push, 1)
    assert old in setup.fails(failures.RevisionNotFound)
    assert setup.sync().commit != old


def test_offline_is_served_from_what_is_complete(
    setup: syncing.Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.server.add(syncing.REPO, FILES)
    setup.sync()
    setup.server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not setup.sync().downloaded
    assert "HF_HUB_OFFLINE" in setup.fails(failures.HubUnreachable, "other")
    assert "HF_HUB_OFFLINE" in setup.fails(failures.HubUnreachable, wanted=CODE)
    assert setup.server.requests == []


def test_a_directory_without_a_valid_marker_is_not_served_and_is_mended(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    published = setup.sync()
    (published.directory / ".complete.json").unlink()
    assert setup.find() is None
    setup.server.requests.clear()
    assert setup.sync().downloaded
    # All bytes were there.
    assert setup.downloads() == []
    assert syncing.content(published.directory) == NEEDED


def test_of_a_damaged_directory_only_what_is_wrong_is_fetched(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    directory = setup.sync().directory
    cut, changed = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
    os.truncate(directory / cut, 1000)
    with (directory / changed).open("r+b") as file:
        file.seek(5000)
        file.write(b"wrong")
    (directory / "tokenizer.json").unlink()
    assert setup.find() is None
    setup.server.requests.clear()
    setup.sync()
    asked = {request.path.rpartition("/")[2]: request.headers.get("range") for request in setup.downloads()}
    assert asked == {cut: "bytes=1000-", changed: None, "tokenizer.json": None}
    assert syncing.content(directory) == NEEDED
    assert setup.leftovers() == []


def test_python_files_are_added_to_a_published_directory(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES | {"vision/encoder.py": b"pass"})
    directory = setup.sync().directory
    before = {path: path.stat().st_ino for path in directory.iterdir() if path.name != ".complete.json"}
    setup.server.requests.clear()
    assert setup.sync(wanted=CODE).directory == directory
    assert {request.path.rpartition("/")[2] for request in setup.downloads()} == {"modeling.py", "encoder.py"}
    assert syncing.content(directory) == NEEDED | {
        "modeling.py": FILES["modeling.py"],
        "vision/encoder.py": b"pass",
    }
    assert {path: path.stat().st_ino for path in before} == before
    setup.server.requests.clear()
    assert not setup.sync().downloaded
    assert not setup.sync(wanted=CODE).downloaded
    assert (setup.server.requests, setup.leftovers()) == ([], [])


def test_an_extension_that_fails_leaves_the_directory_served(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    setup.sync()
    setup.server.fault("*.py", hub_faults.wrong_bytes)
    setup.fails(failures.Corrupt, wanted=CODE)
    assert setup.find() is not None
    assert setup.find(wanted=CODE) is None


def test_weights_that_can_run_code_are_served_only_to_who_allows_them(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, {"config.json": b"{}", "pytorch_model.bin": b"pickle" * 1000})
    assert "allowPickle" in setup.fails(failures.NoSafetensors)
    assert setup.downloads() == []
    assert setup.sync(wanted=selection.Wanted(allow_pickle=True)).downloaded
    assert setup.find() is None
    with pytest.raises(failures.NoSafetensors):
        setup.sync()


def test_a_listing_in_pages_is_read_to_its_end(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES | {f"additional_chat_templates/{n}.jinja": b"x" for n in range(25)})
    setup.server.page_size = 4
    assert len(syncing.content(setup.sync().directory)) == len(NEEDED) + 25
    assert len(setup.server.asked("*/tree/*")) == 10


def test_names_in_other_scripts_arrive(setup: syncing.Setup) -> None:
    odd = {"größe %20 #1?.json": b"{}", "additional_chat_templates/工具.jinja": b"x"}
    setup.server.add(syncing.REPO, FILES | odd)
    assert syncing.content(setup.sync().directory) == NEEDED | odd


def test_a_marker_in_the_repository_is_not_taken_for_ours(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES | {".complete.json": b'{"schema": 1}'})
    setup.sync()
    assert not setup.sync().downloaded


@pytest.mark.parametrize("path", ["../out.json", "/etc/out.json", "a/../../out.json"])
def test_a_name_that_leaves_its_directory_is_refused(setup: syncing.Setup, path: str) -> None:
    setup.server.add(syncing.REPO, FILES | {path: b"{}"})
    assert "not as a model hub does" in setup.fails(failures.HubUnreachable)


def test_whoever_wants_to_know_reads_how_far_it_is(setup: syncing.Setup) -> None:
    commit = setup.server.add(syncing.REPO, FILES)
    seen: list[dict[str, object]] = []

    def look() -> None:
        """Holds a file back until its download is written about."""
        for _ in range(500):
            for path in setup.cache.root.glob(f"*/.staging/{commit}*.progress.json"):
                seen.append(json.loads(path.read_text()))
            if seen and seen[-1]["bytes_total"]:
                return
            time.sleep(0.01)

    def hold(answer: hub_server.Answer) -> None:
        answer.pause = look

    setup.server.fault("*/model-00001*", hold)
    setup.sync()
    assert seen[-1].keys() == {field.name for field in dataclasses.fields(progress.State)}
    assert (seen[-1]["bytes_total"], seen[-1]["files_total"]) == (sum(map(len, NEEDED.values())), len(NEEDED))
    assert setup.leftovers() == []


def test_the_last_state_is_the_whole(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, FILES)
    setup.sync()
    last, size = setup.shown[-1], sum(map(len, NEEDED.values()))
    assert (last.bytes_done, last.bytes_total) == (size, size)
    assert (last.files_done, last.files_total) == (len(NEEDED), len(NEEDED))
    assert [state.beat for state in setup.shown] == list(range(1, len(setup.shown) + 1))


def test_huggingface_hub_accepts_the_same_hub(setup: syncing.Setup, tmp_path: Path) -> None:
    commit = setup.server.add(syncing.REPO, FILES | {"vision/encoder.py": b"pass"})
    setup.server.page_size = 3
    found = huggingface_hub.snapshot_download(
        syncing.REPO, cache_dir=tmp_path / "theirs", endpoint=setup.server.url
    )
    assert Path(found).name == commit
    theirs = {
        str(path.relative_to(found)): path.read_bytes() for path in Path(found).rglob("*") if path.is_file()
    }
    assert theirs == FILES | {"vision/encoder.py": b"pass"}
    assert {request.method for request in setup.server.requests} == {"GET", "HEAD"}
