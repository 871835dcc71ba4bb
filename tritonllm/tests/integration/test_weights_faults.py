"""A hub and a network that misbehave: what passes is waited for, what does not is said once and clearly."""

from __future__ import annotations

import contextlib
import email.utils
import json
import threading
import time
from collections.abc import Iterator

import huggingface_hub
import pytest

import hub_faults
import hub_server
import weights_files
from integration import syncing
from tritonllm.weights import failures, hub, lock, selection

FILES = weights_files.model()
NEEDED = weights_files.needed(FILES)
SHARD = "model-00001-of-00003.safetensors"
SIZE = len(FILES[SHARD])


@pytest.fixture
def setup() -> Iterator[syncing.Setup]:
    with syncing.running() as found:
        found.server.add(syncing.REPO, FILES)
        yield found


@pytest.fixture
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than an answer takes on a busy machine: one that comes too late would be asked for once more.
    monkeypatch.setattr(hub, "_TIMEOUT", hub.httpx.Timeout(1.0))


def right(setup: syncing.Setup) -> bool:
    return syncing.content(setup.sync().directory) == NEEDED


def ranges(setup: syncing.Setup, name: str = SHARD) -> list[str | None]:
    return [request.headers.get("range") for request in setup.downloads(name)]


PASSING: dict[str, hub_server.Fault] = {
    "429": hub_faults.status(429),
    "500": hub_faults.status(500),
    "502": hub_faults.status(502),
    "503": hub_faults.status(503),
    "504": hub_faults.status(504),
    "408": hub_faults.status(408),
    "cut": hub_faults.cut(1),
    "reset": hub_faults.cut(0, reset=True),
}
PLACES = {"the revision": "*/revision/*", "the listing": "*/tree/*", "a file": f"*/{SHARD}"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(setup: syncing.Setup, place: str, fault: str) -> None:
    setup.server.fault(PLACES[place], PASSING[fault], 3)
    assert right(setup)
    assert len(setup.server.asked(PLACES[place])) == 4
    assert len(setup.said) == 3
    assert all("trying again in" in sentence for sentence in setup.said)


@pytest.mark.usefixtures("_short_wait")
@pytest.mark.parametrize("place", PLACES)
def test_a_server_that_says_nothing_is_asked_again(setup: syncing.Setup, place: str) -> None:
    awake = threading.Event()
    setup.server.fault(PLACES[place], hub_faults.stall(awake), 2)
    assert right(setup)
    awake.set()
    assert len(setup.server.asked(PLACES[place])) == 3


@pytest.mark.parametrize(
    ("place", "headers"),
    [
        (
            "the revision",
            {"RateLimit": '"api";r=0;t=1', "RateLimit_Policy": '"fixed window";"api";q=500;w=300'},
        ),
        ("the listing", {"Retry_After": "1"}),
        ("a file", {"Retry_After": "1", "RateLimit": '"api";r=400;t=200'}),
    ],
)
def test_the_hub_says_how_long_to_wait(setup: syncing.Setup, place: str, headers: dict[str, str]) -> None:
    setup.server.fault(PLACES[place], hub_faults.status(429, **headers), 1)
    start = time.monotonic()
    assert right(setup)
    assert time.monotonic() - start >= 1


def test_a_date_is_a_wait_as_well(setup: syncing.Setup) -> None:
    start = time.monotonic()
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    setup.server.fault("*/revision/*", hub_faults.status(503, Retry_After=date), 1)
    assert right(setup)
    assert time.monotonic() - start >= 0.9


def test_a_server_in_trouble_is_not_waited_for_by_a_limit_that_is_not_reached(setup: syncing.Setup) -> None:
    setup.server.fault("*/revision/*", hub_faults.status(503, RateLimit='"api";r=499;t=280'), 1)
    assert right(setup)


def test_a_longer_wait_than_we_may_is_not_begun(setup: syncing.Setup) -> None:
    setup.server.fault("*/revision/*", hub_faults.status(429, Retry_After="60"))
    message = setup.fails(failures.RateLimited)
    assert "limits requests" in message
    assert len(setup.server.requests) == 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("code", "kind"), [(429, failures.RateLimited), (503, failures.HubUnreachable)])
def test_retries_have_a_limit(
    setup: syncing.Setup, place: str, code: int, kind: type[failures.Failure]
) -> None:
    setup.server.fault(PLACES[place], hub_faults.status(code))
    start = time.monotonic()
    setup.fails(kind, max_wait_seconds=1)
    assert time.monotonic() - start < 20
    assert len(setup.server.asked(PLACES[place])) > 1


def test_the_wait_for_another_process_is_no_wait_for_the_hub(
    setup: syncing.Setup,
) -> None:
    commit = setup.server.repositories[syncing.REPO].revisions["main"]
    snapshot = setup.cache.snapshot(syncing.REPO, commit)

    def release() -> None:
        while not any("waiting" in sentence for sentence in setup.said):
            time.sleep(0.01)
        time.sleep(1.7)
        held.close()

    with contextlib.ExitStack() as held:
        held.enter_context(lock.exclusive(snapshot.lock, lambda: False))
        setup.server.fault("*/tree/*", hub_faults.status(503), 1)
        thread = threading.Thread(target=release)
        thread.start()
        assert setup.sync(commit, max_wait_seconds=1.5).downloaded
        thread.join()


def test_a_cut_download_goes_on_where_it_stopped(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(30_000), 2)
    assert right(setup)
    assert ranges(setup) == [None, "bytes=30000-", "bytes=60000-"]


def test_a_server_that_cuts_always_but_goes_on_is_enough(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(20_000))
    assert right(setup)
    assert ranges(setup) == [None, *(f"bytes={at}-" for at in range(20_000, SIZE, 20_000))]


def test_a_server_that_cuts_always_and_never_goes_on_is_given_up(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.no_range)
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(20_000))
    message = setup.fails(failures.HubUnreachable, max_wait_seconds=2)
    assert "can't be reached" in message
    assert len(setup.downloads(SHARD)) > 2


def test_a_server_without_ranges_starts_the_file_anew(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.no_range)
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(30_000), 1)
    assert right(setup)
    assert ranges(setup) == [None, "bytes=30000-"]
    assert setup.shown[-1].bytes_done == setup.shown[-1].bytes_total


def test_another_part_than_was_asked_for_is_not_written(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(30_000), 1)
    setup.server.fault(f"*/{SHARD}", hub_faults.other_range)
    assert right(setup)
    assert ranges(setup) == [None, "bytes=30000-", None]


def test_wrong_bytes_of_the_right_length_are_fetched_again(setup: syncing.Setup) -> None:
    for name in NEEDED:
        setup.server.fault(f"*/{name}", hub_faults.wrong_bytes, 1)
    assert right(setup)
    assert setup.shown[-1].bytes_done == setup.shown[-1].bytes_total


@pytest.mark.parametrize("name", [SHARD, "config.json"])
def test_bytes_that_stay_wrong_are_never_published(setup: syncing.Setup, name: str) -> None:
    setup.server.fault(f"*/{name}", hub_faults.wrong_bytes)
    message = setup.fails(failures.Corrupt)
    assert f"{name} of org/name came twice" in message
    assert len(setup.downloads(name)) == 2
    setup.server.heal()
    assert right(setup)


@pytest.mark.parametrize("more", [-1, 1, -90_000, 10_000])
def test_a_file_of_another_length_is_never_published(setup: syncing.Setup, more: int) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.wrong_length(more))
    setup.fails(failures.Corrupt)
    assert len(setup.downloads(SHARD)) == 2
    setup.server.heal()
    assert right(setup)


def test_another_file_in_between_costs_nothing_of_what_is_there(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(60_000), 1)
    portals = 0

    def once(answer: hub_server.Answer) -> None:
        nonlocal portals
        if answer.status == 206 and not portals:
            portals += 1
            hub_faults.portal(answer)

    setup.server.fault(f"*/{SHARD}", once)
    assert right(setup)
    assert ranges(setup) == [None, "bytes=60000-", "bytes=60000-"]


@pytest.mark.parametrize("place", PLACES)
def test_an_error_in_another_encoding_is_an_error_like_others(setup: syncing.Setup, place: str) -> None:
    def page(answer: hub_server.Answer) -> None:
        answer.status, answer.headers, answer.body, answer.start = 503, {}, "Größe".encode("latin-1"), 0

    setup.server.fault(PLACES[place], page, 1)
    assert right(setup)
    assert "HTTP 503" in setup.said[0]


@pytest.mark.parametrize("place", ["the revision", "the listing"])
def test_a_portal_is_not_taken_for_a_hub(setup: syncing.Setup, place: str) -> None:
    setup.server.fault(PLACES[place], hub_faults.portal)
    assert "not as a model hub does" in setup.fails(failures.HubUnreachable)
    assert len(setup.server.asked(PLACES[place])) == 1


def test_a_portal_is_not_taken_for_a_file(setup: syncing.Setup) -> None:
    setup.server.fault("*/resolve/*", hub_faults.portal)
    setup.fails(failures.Corrupt)


@pytest.mark.parametrize("body", [b"[]", b"5", b'{"sha": 5}', b'{"sha": "main"}', b'"x"', b"\xff"])
def test_an_answer_without_a_commit_is_no_answer(setup: syncing.Setup, body: bytes) -> None:
    setup.server.fault("*/revision/*", lambda answer: setattr(answer, "body", body))
    setup.fails(failures.HubUnreachable)


@pytest.mark.parametrize(
    "body", [b"{}", b"5", b"[5]", b'[{"type": "file"}]', b'[{"type": "file", "path": 5}]']
)
def test_a_listing_that_is_none_is_no_answer(setup: syncing.Setup, body: bytes) -> None:
    setup.server.fault("*/tree/*", lambda answer: setattr(answer, "body", body))
    setup.fails(failures.HubUnreachable if body != b"{}" else failures.NoSafetensors)


def test_a_listing_that_leads_to_itself_ends(setup: syncing.Setup) -> None:
    link = f'<{setup.server.url}/x?recursive=true&expand=false&cursor=1>; rel="next"'
    setup.server.fault("*/tree/*", lambda answer: answer.headers.update(Link=link))
    setup.fails(failures.HubUnreachable)
    assert len(setup.server.asked("*/tree/*")) == 2


def test_a_repository_whose_shards_are_not_all_there_is_broken(setup: syncing.Setup) -> None:
    setup.server.add(syncing.REPO, {name: data for name, data in FILES.items() if name != SHARD})
    assert f"names {SHARD}" in setup.fails(failures.Corrupt)
    # A branch that is mended leads to what it is now.
    setup.server.add(syncing.REPO, FILES)
    assert right(setup)


def test_a_repository_of_pointers_is_no_model(setup: syncing.Setup) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    setup.server.add(syncing.REPO, {"config.json": b"{}", "model.safetensors": pointer})
    assert "model.safetensors is no safetensors file" in setup.fails(failures.Corrupt)


def test_the_first_failure_ends_the_others(setup: syncing.Setup) -> None:
    big = weights_files.model(60_000_000, shards=1)
    setup.server.add(syncing.REPO, big)
    setup.server.fault("*.safetensors", hub_faults.slow(0.5))
    setup.server.fault("*/config.json", hub_faults.status(403))
    start = time.monotonic()
    setup.fails(failures.Unauthorized)
    # The large file alone would take 115 s.
    assert time.monotonic() - start < 40


def _one(setup: syncing.Setup, pattern: str = "*") -> None:
    """Asked once, and never again."""
    assert len(setup.server.asked(pattern)) == 1


def test_a_missing_repository_is_said_to_be_missing(setup: syncing.Setup) -> None:
    setup.server.repositories.clear()
    message = setup.fails(failures.RepositoryNotFound)
    assert "correct `spec.model.repo`" in message
    _one(setup)
    assert setup.leftovers() == []


def test_a_missing_revision_is_said_to_be_missing(setup: syncing.Setup) -> None:
    assert "org/name has no revision v2; correct `spec.model.revision`" in setup.fails(
        failures.RevisionNotFound, "v2"
    )
    _one(setup)
    setup.fails(failures.RevisionNotFound, "f" * 40)


def test_a_private_repository_opens_with_a_token(setup: syncing.Setup) -> None:
    setup.server.repositories[syncing.REPO].access = "private"
    assert "without a token" in setup.fails(failures.RepositoryNotFound)
    _one(setup)
    setup.server.tokens.add("hf_secret")
    assert setup.sync(token="hf_secret").downloaded
    assert {request.headers.get("authorization") for request in setup.server.requests[1:]} == {
        "Bearer hf_secret"
    }


def test_a_gated_repository_asks_for_its_licence_at_the_first_file(setup: syncing.Setup) -> None:
    setup.server.repositories[syncing.REPO].access = "gated"
    message = setup.fails(failures.GatedRepo)
    assert f"accept its licence at {setup.server.url}/org/name" in message
    asked = [request.path for request in setup.downloads()]
    assert len(asked) == len(set(asked))
    setup.server.tokens.add("hf_secret")
    assert setup.sync(token="hf_secret").downloaded


def test_a_token_without_the_licence_is_said_to_be_one(setup: syncing.Setup) -> None:
    setup.server.tokens.add("hf_secret")
    setup.server.fault("*/resolve/*", hub_faults.status(403, X_Error_Code="GatedRepo"))
    assert "can't be read with this token" in setup.fails(failures.GatedRepo, token="hf_secret")


def test_a_disabled_repository_is_said_to_be_disabled(setup: syncing.Setup) -> None:
    setup.server.repositories[syncing.REPO].access = "disabled"
    assert "was disabled by the Hub" in setup.fails(failures.RepositoryNotFound)
    _one(setup)


def test_a_token_that_is_not_accepted_is_said_not_to_be(setup: syncing.Setup) -> None:
    assert "does not accept the token" in setup.fails(failures.Unauthorized, token="hf_secret")
    _one(setup)


@pytest.mark.parametrize("code", [400, 404, 410, 418])
def test_an_answer_that_nobody_expects_is_final(setup: syncing.Setup, code: int) -> None:
    setup.server.fault("*/revision/*", hub_faults.status(code))
    assert f"answers HTTP {code}" in setup.fails(failures.HubUnreachable)
    _one(setup)


def test_a_file_that_is_listed_and_not_there_is_final(setup: syncing.Setup) -> None:
    setup.server.fault(f"*/{SHARD}", hub_faults.status(404, X_Error_Code="EntryNotFound"))
    assert "does not have" in setup.fails(failures.Corrupt)
    _one(setup, f"*/{SHARD}")


def test_a_hub_that_is_not_there_is_asked_until_the_wait_ends(setup: syncing.Setup) -> None:
    setup.server.url = "http://127.0.0.1:9"
    message = setup.fails(failures.HubUnreachable, max_wait_seconds=1)
    assert "http://127.0.0.1:9 can't be reached" in message
    assert setup.said


@pytest.mark.parametrize("url", ["127.0.0.1", "ftp://127.0.0.1", "http://[", "http://"])
def test_an_address_that_is_none_is_final(setup: syncing.Setup, url: str) -> None:
    setup.server.url = url
    setup.fails(failures.HubUnreachable)
    assert setup.said == []


def test_credentials_in_the_address_are_not_shown(setup: syncing.Setup) -> None:
    setup.server.url = setup.server.url.replace("://", "://user:password@")
    assert "password" not in setup.fails(failures.Unauthorized)
    assert not any("password" in sentence for sentence in setup.said)


def test_the_token_is_not_taken_to_another_origin(setup: syncing.Setup) -> None:
    setup.server.tokens.add("hf_secret")
    setup.server.fault("*/resolve/*", hub_faults.redirect(setup.server.elsewhere))
    published = setup.sync(token="hf_secret")
    assert syncing.content(published.directory) == NEEDED
    there = [request for request in setup.server.requests if request.elsewhere]
    assert len(there) == len(NEEDED) - 1
    assert not any("authorization" in request.headers for request in there)


def test_a_download_goes_on_behind_a_redirect(setup: syncing.Setup) -> None:
    away = hub_faults.redirect(setup.server.elsewhere)
    setup.server.fault(f"*/{SHARD}", lambda answer: away(answer) if answer.status == 206 else None)
    setup.server.fault(f"*/{SHARD}", hub_faults.cut(30_000), 1)
    assert right(setup)
    assert [r.headers["range"] for r in setup.server.requests if r.elsewhere] == ["bytes=30000-"]


def test_a_listing_that_names_another_host_is_read_here(setup: syncing.Setup) -> None:
    setup.server.tokens.add("hf_secret")
    setup.server.page_size = 3

    def elsewhere(answer: hub_server.Answer) -> None:
        if "Link" in answer.headers:
            answer.headers["Link"] = answer.headers["Link"].replace(setup.server.url, setup.server.elsewhere)

    setup.server.fault("*/tree/*", elsewhere)
    assert setup.sync(token="hf_secret").downloaded
    assert not any(request.elsewhere for request in setup.server.requests)


def test_no_message_and_no_log_holds_the_token(
    setup: syncing.Setup, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    huggingface_hub.logging.set_verbosity_debug()
    caplog.set_level("DEBUG")
    setup.server.tokens.add("hf_secret")
    setup.server.fault("*/revision/*", hub_faults.status(500), 1)
    setup.server.fault("*/tree/*", hub_faults.cut(1), 1)
    said = [setup.fails(failures.Unauthorized, token="hf_secret_of_somebody_else")]
    setup.server.fault("*/config.json", hub_faults.status(404, X_Error_Code="EntryNotFound"))
    said.append(setup.fails(failures.Corrupt, token="hf_secret"))
    everything = [*said, *setup.said, caplog.text, *capfd.readouterr()]
    everything += [json.dumps(str(state)) for state in setup.shown]
    everything += [path.read_text(errors="replace") for path in setup.cache.root.rglob("*") if path.is_file()]
    huggingface_hub.logging.set_verbosity_warning()
    assert not any("hf_secret" in text for text in everything)


def test_an_extension_is_checked_as_well(setup: syncing.Setup) -> None:
    setup.sync()
    setup.server.fault("*.py", hub_faults.wrong_bytes, 1)
    published = setup.sync(wanted=selection.Wanted(remote_code=True))
    assert syncing.content(published.directory) == weights_files.needed(FILES, code=True)
