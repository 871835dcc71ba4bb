"""Where an endpoint's weights are, and what several endpoints get of one repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caches
import pytest

from tritonllm import api
from tritonllm.weights import endpoints, failures, hub, layout, lock, marker, selection, sync

A, B = "a" * 40, "b" * 40


def endpoint(name: str = "chat", *, commit: str | None = None, **model: Any) -> api.LLMEndpoint:
    spec = {
        "pool": "llm",
        "guardrails": {},
        **({"model": model} if model else {"engine": {"type": "simulated"}}),
    }
    return api.LLMEndpoint.model_validate(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": name},
            "spec": spec,
            **({"resolved": {"commit": commit}} if commit else {}),
        }
    )


@pytest.fixture
def cache(tmp_path: Path) -> layout.Cache:
    return layout.Cache(tmp_path)


def refusing(failure: failures.Failure | Exception) -> sync.Options:
    def refuse() -> hub.Hub:
        raise failure

    return sync.Options(refuse)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (endpoint(path="m"), "/w/m"),
        (endpoint(path="/elsewhere/m"), "/elsewhere/m"),
        (endpoint(repo="org/m"), "/w/org--m/main"),
        (endpoint(repo="org/m", revision=A), f"/w/org--m/{A}"),
        (endpoint(repo="org/m", commit=B), f"/w/org--m/{B}"),
        (endpoint(repo="org/m", revision=A, commit=B), f"/w/org--m/{A}"),
        (endpoint(), None),
    ],
)
def test_weights_are_at_their_path_or_under_their_commit(given: api.LLMEndpoint, place: str | None) -> None:
    assert given.directory("/w") == place


def test_a_revision_is_resolved_again_by_request_until_its_commit_is_known() -> None:
    given = endpoint(repo="org/name")
    asked = endpoints.source(given.at("a" * 40).requested("0123456789"))
    assert asked is not None
    assert (asked.commit, asked.refresh) == (None, True)
    known = given.requested("0123456789").at("b" * 40)
    assert known.resolved == api.Resolved(commit="b" * 40, request="0123456789")
    first = endpoints.source(given)
    assert first is not None
    assert not first.refresh


def test_the_place_is_the_one_of_the_cache(cache: layout.Cache) -> None:
    assert endpoint(repo="org/m", commit=A).directory(str(cache.root)) == str(
        cache.snapshot("org/m", A).directory
    )


def test_a_recorded_commit_pins_a_branch_and_nothing_else(cache: layout.Cache) -> None:
    caches.publish(cache, "a", revision="main")
    given = [
        endpoint("branch", repo=caches.REPO),
        endpoint("known", repo=caches.REPO, commit=B),
        endpoint("commit", repo=caches.REPO, revision=B),
        endpoint("other", repo="org/unknown"),
        endpoint("path", path="m"),
        endpoint("none"),
    ]
    found = endpoints.pinned(cache, given)
    assert [each.commit for each in found] == [A, B, B, None, None, None]
    assert [each.name for each in found] == [each.name for each in given]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (endpoint(repo=caches.REPO), None),
        (endpoint(repo=caches.REPO, revision=A), None),
        (endpoint(path="m"), None),
        (endpoint(), None),
        (endpoint(repo=caches.REPO, revision="v1"), "there are no weights of acme/tiny at v1 in"),
        (endpoint(repo=caches.REPO, commit=B), f"{B} are not complete"),
        (endpoint(repo=caches.REPO, trustRemoteCode=True), "lacks the Python files"),
    ],
)
def test_what_is_missing_is_said(cache: layout.Cache, given: api.LLMEndpoint, words: str | None) -> None:
    caches.publish(cache, "a", revision="main")
    found = endpoints.missing(cache, given)
    assert found is None if words is None else found is not None and words in found


def pickled(cache: layout.Cache) -> layout.Snapshot:
    snapshot = cache.snapshot(caches.REPO, A)
    snapshot.directory.mkdir(parents=True)
    (snapshot.directory / "pytorch_model.bin").write_bytes(b"\x80")
    wanted = selection.Wanted(allow_pickle=True)
    files = (marker.File("pytorch_model.bin", 1, "0" * 64),)
    marker.write(snapshot.directory, marker.Marker(caches.REPO, A, wanted, "pickle", files, wanted.digest()))
    return snapshot


def test_weights_that_can_run_code_are_only_for_who_allows_them(cache: layout.Cache) -> None:
    pickled(cache)
    careful, careless = (
        endpoint("a", repo=caches.REPO, revision=A),
        endpoint("b", repo=caches.REPO, revision=A, allowPickle=True),
    )
    assert "`allowPickle` is not set" in (endpoints.missing(cache, careful) or "")
    first, second = endpoints.bring(cache, [careful, careless], refusing(AssertionError("nobody asks")))
    assert first.problem is not None
    assert first.problem.reason == "NoSafetensors"
    assert "pytorch_model.bin can run code" in first.problem.message
    assert second.published == sync.Published(cache.snapshot(caches.REPO, A).directory, A, 1, False)


def test_an_endpoint_wants_the_layout_that_its_engine_reads() -> None:
    plain = endpoint("a", repo=caches.REPO, revision=A)
    args = api.Engine(type="vllm", args={"load_format": "mistral", "tokenizer_mode": "mistral"})
    mistral = plain.model_copy(update={"spec": plain.spec.model_copy(update={"engine": args})})
    wanted = [endpoints.source(each) for each in (plain, mistral)]
    assert [each and each.wanted.layout for each in wanted] == ["hf", "mistral"]


def test_what_is_not_from_the_hub_needs_nothing(cache: layout.Cache) -> None:
    options = refusing(AssertionError("nobody asks"))
    results = endpoints.bring(cache, [endpoint("a"), endpoint("b", path="mine")], options)
    assert [result.note for result in results] == [
        "the simulated engine needs no weights",
        "its weights are at spec.model.path mine, so there is nothing to download",
    ]


def test_a_failure_does_not_stop_the_others_and_is_met_once(cache: layout.Cache) -> None:
    asked = []

    def refuse() -> hub.Hub:
        asked.append(1)
        raise failures.Unauthorized("no")

    caches.publish(cache, "a", revision="main")
    given = [
        endpoint("a", repo="org/x"),
        endpoint("b", repo="org/x", trustRemoteCode=True),
        endpoint("c", repo=caches.REPO),
    ]
    told = []
    results = endpoints.bring(cache, given, sync.Options(refuse), done=told.append)
    assert told == results
    assert [result.problem and result.problem.reason for result in results] == ["Unauthorized"] * 2 + [None]
    assert len(asked) == 1


def test_a_bug_is_one_endpoints_failure_and_is_shown(cache: layout.Cache) -> None:
    caches.publish(cache, "a", revision="main")
    bugs: list[Exception] = []
    results = endpoints.bring(
        cache,
        [endpoint("a", repo="org/x"), endpoint("b", repo=caches.REPO)],
        refusing(ZeroDivisionError("hf_secret")),
        bug=bugs.append,
    )
    assert [result.problem and result.problem.reason for result in results] == ["InternalError", None]
    assert len(bugs) == 1


def test_served_weights_are_in_use_until_the_end_of_the_block(cache: layout.Cache) -> None:
    snapshot = caches.publish(cache, "a", revision="main")
    given = endpoints.pinned(
        cache, [endpoint(repo=caches.REPO), endpoint("other", repo="org/none"), endpoint("c")]
    )
    with endpoints.in_use(given, str(cache.root)):
        assert lock.is_used(snapshot.directory)
    assert not lock.is_used(snapshot.directory)
