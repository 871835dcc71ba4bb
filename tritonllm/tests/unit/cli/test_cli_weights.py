"""`tritonllm weights` on small caches and a small hub: what it says, to whom, and how it ends."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
import typer.testing

import hub_server
from tritonllm import cli
from tritonllm.commands import downloading
from tritonllm.serve import supervisor
from tritonllm.weights import endpoints as weights_of
from tritonllm.weights import failures, progress

pytestmark = pytest.mark.timeout(60)

COMMIT = "c" * 40
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
STATE = progress.State("org/model", COMMIT, 1_200_000_000, 4_000_000_000, 95_000_000, 3, 12, "", 5)


def run(*arguments: str | Path, **environment: str) -> typer.testing.Result:
    return typer.testing.CliRunner(env={"HF_TOKEN": "", "COLUMNS": "250", **environment}).invoke(
        cli.app, ["weights", *map(str, arguments)]
    )


def endpoint(name: str, model: str) -> str:
    return (
        f"apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\nmetadata: {{name: {name}}}\n"
        f"spec: {{pool: llm, {model}, guardrails: {{}}}}\n---\n"
    )


def tensors() -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [2048], "data_offsets": [0, 2048]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2048)


@pytest.fixture
def hub() -> Iterator[hub_server.HubServer]:
    with hub_server.HubServer() as served:
        served.tokens.add(TOKEN)
        served.add("org/model", {"model.safetensors": tensors(), "config.json": b"{}"})
        served.add("org/gated", {"model.safetensors": tensors(), "config.json": b"{}"}, access="gated")
        yield served


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "endpoints.yaml").write_text(
        endpoint("locked", "model: {repo: org/gated}")
        + endpoint("chat", "model: {repo: org/model}")
        + endpoint("mine", "model: {path: mine}")
        + endpoint("pretend", "engine: {type: simulated}")
    )
    return tmp_path


def sync(
    place: Path, hub: hub_server.HubServer, *more: str | Path, **environment: str
) -> typer.testing.Result:
    arguments = (
        "--endpoints",
        place / "endpoints.yaml",
        "--cache",
        place / "cache",
        "--endpoint-url",
        hub.url,
    )
    message = ("--termination-message", place / "message", "--max-wait", "0")
    return run("sync", *arguments, *message, *more, **environment)


def told(place: Path) -> dict[str, Any]:
    text = (place / "message").read_text()
    assert text.count("\n") == 1
    return json.loads(text)


def test_one_failure_stops_nobody_else_and_each_result_is_told(
    place: Path, hub: hub_server.HubServer
) -> None:
    commit = hub.repositories["org/model"].revisions["main"]
    result = sync(place, hub)
    assert result.exit_code == failures.GatedRepo.exit_code
    assert result.stdout.splitlines() == [
        f"chat: org/model at {commit} is downloaded and verified (0.0 MB in {place}/cache/org--model/{commit})",
        "mine: its weights are at spec.model.path mine, so there is nothing to download",
        "pretend: the simulated engine needs no weights",
    ]
    assert "locked: GatedRepo: org/gated is gated" in result.stderr
    found = told(place)["endpoints"]
    assert list(found) == ["locked", "chat", "mine", "pretend"]
    assert found["locked"]["reason"] == "GatedRepo"
    assert (found["chat"], found["mine"]) == ({"commit": commit}, {})


def test_an_empty_list_of_endpoints_needs_nothing(place: Path, hub: hub_server.HubServer) -> None:
    (place / "endpoints.yaml").write_text('{"apiVersion":"v1","kind":"List","items":[]}')
    assert sync(place, hub).exit_code == 0
    assert (place / "message").read_text() == '{"endpoints":{}}\n'
    assert hub.requests == []


def test_a_second_start_asks_nobody(place: Path, hub: hub_server.HubServer) -> None:
    assert sync(place, hub, HF_TOKEN=TOKEN).exit_code == 0
    hub.requests.clear()
    result = sync(place, hub)
    assert (result.exit_code, hub.requests) == (0, [])
    assert result.stdout.count("is already complete") == 2


def test_only_refresh_looks_a_branch_up_again(place: Path, hub: hub_server.HubServer) -> None:
    assert sync(place, hub, HF_TOKEN=TOKEN).exit_code == 0
    moved = hub.add("org/model", {"model.safetensors": tensors(), "config.json": b'{"a": 1}'})
    assert moved not in sync(place, hub).stdout
    assert f"chat: org/model at {moved} is downloaded" in sync(place, hub, "--refresh", HF_TOKEN=TOKEN).stdout


@pytest.mark.parametrize("how", ["file", "variable"])
def test_a_token_opens_a_gated_repository_and_is_shown_nowhere(
    place: Path, hub: hub_server.HubServer, how: str
) -> None:
    (place / "token").write_text(f"  {TOKEN}\n")
    result = (
        sync(place, hub, "--token-file", place / "token")
        if how == "file"
        else sync(place, hub, HF_TOKEN=TOKEN)
    )
    assert result.exit_code == 0
    assert hub.asked("*/model.safetensors")
    assert all(request.headers["authorization"] == f"Bearer {TOKEN}" for request in hub.requests)
    assert TOKEN not in result.output + (place / "message").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file or directory; correct --token-file"),
        (b" \n", "is empty; put the token in it"),
        (b"\xff", "can't be read: it is no text"),
        (f"{TOKEN}\nsecond line".encode(), "holds more than a token"),
    ],
)
def test_a_token_file_that_is_none_is_said_and_not_shown(
    place: Path, hub: hub_server.HubServer, content: bytes | None, words: str
) -> None:
    if content is not None:
        (place / "token").write_bytes(content)
    result = sync(place, hub, "--token-file", place / "token")
    assert result.exit_code == failures.Unauthorized.exit_code
    assert words in result.stderr
    assert words in told(place)["endpoints"]["chat"]["message"]
    assert TOKEN not in result.output + (place / "message").read_text()
    assert hub.requests == []


def test_a_token_file_matters_only_where_something_is_asked(place: Path, hub: hub_server.HubServer) -> None:
    assert sync(place, hub, HF_TOKEN=TOKEN).exit_code == 0
    assert sync(place, hub, "--token-file", place / "gone").exit_code == 0


def test_two_endpoints_of_one_repository_download_it_once(place: Path, hub: hub_server.HubServer) -> None:
    hub.add("org/old", {"pytorch_model.bin": bytes(2000), "config.json": b"{}", "code.py": b"1"})
    (place / "endpoints.yaml").write_text(
        endpoint("careful", "model: {repo: org/old}")
        + endpoint("careless", "model: {repo: org/old, allowPickle: true}")
        + endpoint("coder", "model: {repo: org/old, allowPickle: true, trustRemoteCode: true}")
    )
    result = sync(place, hub)
    assert result.exit_code == failures.NoSafetensors.exit_code
    found = told(place)["endpoints"]
    assert {name: said.get("reason") for name, said in found.items()} == {
        "careful": "NoSafetensors",
        "careless": None,
        "coder": None,
    }
    assert [len(hub.asked(f"*/{name}")) for name in ("pytorch_model.bin", "code.py")] == [1, 1]


def test_a_file_that_is_no_endpoint_is_a_mistake(place: Path, hub: hub_server.HubServer) -> None:
    (place / "endpoints.yaml").write_text(endpoint("chat", "model: {repo: org--x/y}"))
    result = sync(place, hub)
    assert result.exit_code == 2
    assert "spec.model.repo: must not contain `--`" in result.stderr
    found = told(place)
    assert (found["reason"], found["endpoints"]) == ("InvalidSpec", {})


def test_an_endpoint_that_cannot_be_read_is_told_and_the_others_get_their_weights(
    place: Path, hub: hub_server.HubServer
) -> None:
    (place / "endpoints.yaml").write_text(
        endpoint("chat", "model: {repo: org/model}") + endpoint("newer", "shiny: 1")
    )
    result = sync(place, hub)
    assert result.exit_code == 0
    found = told(place)["endpoints"]
    assert found["chat"].keys() == {"commit"}
    assert found["newer"]["reason"] == "InvalidSpec"
    assert "spec.shiny: unknown field `shiny`" in found["newer"]["message"]
    assert "newer: InvalidSpec: " in result.stderr


def test_a_bug_is_told_with_a_traceback_and_without_its_words(
    place: Path, hub: hub_server.HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(TOKEN)

    monkeypatch.setattr(weights_of, "bring", broken)
    result = sync(place, hub)
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr
    assert told(place)["reason"] == "InternalError"
    assert TOKEN not in (place / "message").read_text()


def test_a_message_that_has_no_place_is_a_line_and_no_failure(place: Path, hub: hub_server.HubServer) -> None:
    result = sync(place, hub, "--termination-message", place / "none" / "x", HF_TOKEN=TOKEN)
    assert result.exit_code == 0
    assert f"cannot write the termination message {place}/none/x: No such file" in result.stderr


def test_serve_takes_an_empty_list_of_endpoints_but_no_empty_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "run", lambda options: 7)

    def served(text: str) -> int:
        (place / "endpoints.yaml").write_text(text)
        arguments = ["serve", str(place / "endpoints.yaml"), "--weights", str(place / "cache")]
        return typer.testing.CliRunner().invoke(cli.app, arguments).exit_code

    assert served('{"apiVersion":"v1","kind":"List","items":[]}') == 7
    assert served("# nothing yet\n") == 2


def test_what_is_there_is_listed(place: Path, hub: hub_server.HubServer) -> None:
    assert "no weights in" in run("list", "--cache", place / "cache").stdout
    sync(place, hub, HF_TOKEN=TOKEN)
    commit = hub.repositories["org/model"].revisions["main"]
    rows = run("list", "--cache", place / "cache").stdout.splitlines()
    assert re.search(rf"org/model +{commit[:12]} +main +complete +0.0 MB +2 +20\d\d-", rows[2])
    (gated, model) = json.loads(run("list", "--cache", place / "cache", "--json").stdout)
    assert gated["repo"] == "org/gated"
    assert (model["commit"], model["revisions"], model["state"]) == (commit, ["main"], "complete")
    assert model["used"].endswith("+00:00")


def test_what_changed_is_found(place: Path, hub: hub_server.HubServer) -> None:
    sync(place, hub, HF_TOKEN=TOKEN)
    verify = ("verify", "--cache", place / "cache", "--full")
    result = run(*verify)
    assert (result.exit_code, result.stdout.count(": whole")) == (0, 2)
    (weights,) = (place / "cache" / "org--model").glob("*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    result = run(*verify, "org/model")
    assert result.exit_code == 1
    assert "model.safetensors has other bytes than it had" in result.stdout
    assert run(*verify, "org/gated").exit_code == 0
    assert run(*verify, "org/unknown").exit_code == 1


def test_what_no_endpoint_needs_goes_after_its_time(place: Path, hub: hub_server.HubServer) -> None:
    sync(place, hub, HF_TOKEN=TOKEN)
    (place / "keep.yaml").write_text(endpoint("chat", "model: {repo: org/model}"))
    collect = ("gc", "--cache", place / "cache", "--keep", place / "keep.yaml", "--keep", place / "keep.yaml")
    assert "kept: it was used within the grace period" in run(*collect).stdout
    shown = run(*collect, "--grace", "0", "--dry-run").stdout
    assert re.search(r"org--gated/\w+: would be removed: no endpoint needs it", shown)
    assert re.search(r"org--model/\w+: kept: an endpoint needs it", shown)
    assert list((place / "cache" / "org--gated").glob("*/model.safetensors"))
    assert "MB removed" in run(*collect, "--grace", "0").stdout
    assert not list((place / "cache" / "org--gated").glob("*/model.safetensors"))
    assert list((place / "cache" / "org--model").glob("*/model.safetensors"))


def test_nothing_goes_where_a_file_can_not_be_read(place: Path, hub: hub_server.HubServer) -> None:
    sync(place, hub, HF_TOKEN=TOKEN)
    (place / "bad.yaml").write_text("nonsense")
    result = run("gc", "--cache", place / "cache", "--grace", "0", "--keep", place / "bad.yaml")
    assert result.exit_code == 2
    assert list((place / "cache" / "org--model").glob("*/model.safetensors"))


def test_a_directory_that_was_carried_here_is_taken_over(place: Path) -> None:
    (place / "carried").mkdir()
    (place / "carried" / "model.safetensors").write_bytes(tensors())
    (place / "carried" / "config.json").write_text("{}")
    arguments = ("import", place / "carried", "--cache", place / "cache", "--commit")
    result = run(*arguments, COMMIT, "--repo", "org/model")
    assert (result.exit_code, result.stdout.count(f"org/model at {COMMIT} is complete")) == (0, 1)
    (place / "endpoints.yaml").write_text(endpoint("chat", "model: {repo: org/model}"))
    offline = ("sync", "--endpoints", place / "endpoints.yaml", "--cache", place / "cache")
    assert run(*offline, HF_HUB_OFFLINE="1").exit_code == 0


@pytest.mark.parametrize(
    ("commit", "repo", "words"),
    [("main", "org/model", "is no commit"), (COMMIT, "org--x/model", "--repo"), (COMMIT, "model", "--repo")],
)
def test_what_can_not_be_taken_over_is_a_mistake(place: Path, commit: str, repo: str, words: str) -> None:
    result = run("import", place, "--cache", place / "cache", "--commit", commit, "--repo", repo)
    assert result.exit_code == 2
    assert words in result.stderr


def test_what_is_no_model_has_the_exit_code_of_its_reason(place: Path) -> None:
    result = run("import", place, "--cache", place / "cache", "--commit", COMMIT, "--repo", "org/model")
    assert result.exit_code == failures.NoSafetensors.exit_code
    assert "has no weights" in result.stderr


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    output, now = io.StringIO(), [0.0]
    monkeypatch.setattr(downloading.time, "monotonic", lambda: now[0])
    lines = downloading.Lines(output)
    for now[0] in (0.0, 1.0, 9.9, 10.0, 19.0):
        lines.show(STATE)
    lines.say("something happened")
    assert output.getvalue().splitlines() == [
        *["org/model: 1.20 GB of 4.00 GB (30 %), 3 of 12 files, 95.0 MB/s, 29 s left"] * 2,
        "something happened",
    ]


def test_a_line_says_what_is_waited_for() -> None:
    waiting = progress.State("a/b", COMMIT, 500_000, 5_000_000_000, 0, 0, 2, "the Hub limits requests", 5)
    assert downloading.described(waiting) == (
        "a/b: 0.5 MB of 5.00 GB (0 %), 0 of 2 files, the Hub limits requests"
    )


def test_a_terminal_shows_bytes_rate_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    console = rich.console.Console(
        file=output, force_terminal=True, no_color=True, highlight=False, width=160
    )
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    terminal = downloading.Terminal()
    terminal.show(STATE)
    terminal.say("org/model: [x] trying again")
    terminal.close()
    text = output.getvalue()
    assert "org/model" in text
    assert "1.2/4.0 GB" in text
    assert "3 of 12 files" in text
    assert "[x] trying again" in text
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor is hidden"
