"""The commands that only read and write files: validate, render, guard; and the command line as a whole."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console
import typer.testing

from tritonllm import cli, serve
from tritonllm.commands import guard
from tritonllm.commands import serve as serving
from tritonllm.serve import options as serve_options
from tritonllm.serve import supervisor

pytestmark = pytest.mark.timeout(60)

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: chat}
spec:
  pool: llm
  engine: {type: simulated}
  guardrails:
    input: [{name: secret, banned: {phrases: [project falcon]}, action: Block}]
    output: [{name: bird, banned: {phrases: [falcon]}, action: Mask}]
"""


def run(*arguments: str | Path, stdin: str | bytes = "") -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def endpoint(tmp_path: Path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(ENDPOINT)
    return path


def test_help_comes_at_once() -> None:
    children = os.times().children_user
    result = subprocess.run([sys.executable, "-m", "tritonllm", "--help"], capture_output=True, text=True)
    assert os.times().children_user - children < 0.5
    assert all(
        f"\n  {name} " in result.stdout
        for name in ("serve", "validate", "render", "generate", "chat", "guard", "weights")
    )
    assert "3 blocked by a guardrail" in result.stdout


@pytest.mark.parametrize(
    "name",
    [
        *("serve", "validate", "render", "generate", "chat", "guard"),
        *(f"weights {command}" for command in ("sync", "verify", "list", "gc", "import")),
    ],
)
def test_every_command_shows_an_example(name: str) -> None:
    result = run(*name.split(), "--help")
    assert result.exit_code == 0
    assert f"\n      tritonllm {name} " in result.stdout


def test_nothing_at_all_shows_the_help() -> None:
    assert "Commands:" in run().output


def test_the_version_is_shown() -> None:
    assert run("--version").stdout.startswith("tritonllm 0.")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch, endpoint: Path) -> None:
    monkeypatch.setattr("tritonllm.files.load", lambda *_, **__: 1 / 0)
    assert isinstance(run("validate", endpoint).exception, ZeroDivisionError)


def test_a_valid_endpoint_is_said_to_be(endpoint: Path) -> None:
    result = run("validate", endpoint)
    assert (result.exit_code, result.stdout) == (0, "chat: valid\n")


def test_every_problem_is_shown_with_file_and_field(endpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        ENDPOINT.replace("guardrails:", "guardrials:").replace("pool: llm", "pool: 1")
    )
    result = run("validate", endpoint, tmp_path / "bad.yaml", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.replace(f"{tmp_path}/", "").splitlines() == [
        "bad.yaml: spec.pool: must be a string, got 1; put it in quotes",
        "bad.yaml: spec.guardrails: is required",
        "bad.yaml: spec.guardrials: unknown field `guardrials`; did you mean `guardrails`?",
        "none.yaml: cannot be read: No such file or directory",
    ]


def test_an_unknown_version_of_the_engine_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(ENDPOINT.replace("engine: {type: simulated}", "model: {path: m}"))
    result = run("validate", path, "--vllm-version", "0.0.1")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: there is no table for vLLM 0.0.1")


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_repository_is_the_same_every_time(endpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("render", endpoint, "-o", tmp_path / name).exit_code == 0
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    assert "chat-engine/1/model.py" in snapshot(tmp_path / "one")


def test_a_rendered_repository_is_replaced_as_a_whole(endpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(ENDPOINT.replace("name: chat", "name: other"))
    assert run("render", tmp_path / "other.yaml", "-o", tmp_path / "new" / "repository").exit_code == 0
    assert run("render", endpoint, "-o", tmp_path / "new" / "repository").exit_code == 0
    assert [path.name for path in sorted((tmp_path / "new" / "repository").iterdir())] == [
        "chat",
        "chat-engine",
        "chat-guardrail",
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["repository"]


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_was_not_rendered_is_left_alone(endpoint: Path, tmp_path: Path, what: str) -> None:
    output = tmp_path / "precious"
    if what == "file":
        output.write_text("mine")
    else:
        (output / "chat").mkdir(parents=True)
        (output / "chat" / "config.pbtxt").write_text('name: "chat"')
    result = run("render", endpoint, "-o", output)
    assert result.exit_code == 2
    assert "is neither empty nor a rendered repository" in result.stderr
    assert output.read_text() == "mine" if what == "file" else list(snapshot(output)) == ["chat/config.pbtxt"]


def test_a_text_is_masked(endpoint: Path) -> None:
    result = run("guard", "--policy", endpoint, "--direction", "output", stdin="A falcon.\r\nGrün.\n")
    assert (result.exit_code, result.stdout_bytes.decode()) == (0, "A [REDACTED].\r\nGrün.\n")
    assert [json.loads(line) for line in result.stderr.splitlines()] == [
        {"rule": "bird", "action": "Mask", "start": 2, "end": 8}
    ]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_pieces_do_not_matter(endpoint: Path, size: int) -> None:
    arguments = ("guard", "--policy", endpoint, "--direction", "output", "--chunk", str(size))
    assert run(*arguments, stdin="Ä falcon flies").stdout == "Ä [REDACTED] flies"


def test_a_blocked_text_has_its_own_exit_code(endpoint: Path) -> None:
    result = run("guard", "--policy", endpoint, stdin="What is Project Falcon?")
    assert result.exit_code == 3
    assert "alcon" not in result.stdout
    assert json.loads(result.stderr)["rule"] == "secret"


def test_what_is_safe_is_printed_before_the_text_ends(endpoint: Path) -> None:
    command = [sys.executable, "-m", "tritonllm", "guard", "--policy", str(endpoint), "--direction", "output"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"Hello there, falcon, and more. ")
        process.stdin.flush()
        assert process.stdout.read(20) == b"Hello there, [REDACT"
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize(("data", "offset"), [(b"ab\xffcd", 2), (b"a\xc3", 1)])
def test_what_is_not_utf8_is_a_mistake(endpoint: Path, data: bytes, offset: int) -> None:
    result = run("guard", "--policy", endpoint, stdin=data)
    assert result.exit_code == 2
    assert f"not UTF-8: bad byte at offset {offset}" in result.stderr


def test_the_offset_of_a_bad_byte_is_that_of_the_whole_input(tmp_path: Path) -> None:
    source = tmp_path / "text"
    source.write_bytes("ä".encode() * 40_000 + b"\xff")
    with source.open("rb") as stream, pytest.raises(typer.BadParameter, match="offset 80000"):
        list(guard.pieces(stream, None))


def test_records_go_in_and_out_line_by_line(endpoint: Path) -> None:
    lines = [
        '{"text": "A falcon, grün"}',
        '{"chunks": ["A fal", "con"]}',
        '{"text": "half \\ud800"}',
        "nonsense",
        "",
        '{"text": 5}',
        '{"text": "a", "chunks": []}',
        "[" * 100_000,
        '{"chunks": []}',
    ]
    result = run("guard", "--policy", endpoint, "--direction", "output", "--jsonl", stdin="\n".join(lines))
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    verdict = {"rule": "bird", "action": "Mask", "start": 2, "end": 8}
    assert found[:3] == [
        {"text": "A [REDACTED], grün", "blocked": False, "verdicts": [verdict]},
        {"text": "A [REDACTED]", "blocked": False, "verdicts": [verdict]},
        {"text": "half \ud800", "blocked": False, "verdicts": []},
    ]
    assert [record.get("line") for record in found] == [None, None, None, 4, 5, 6, 7, 8, None]
    assert "is not JSON" in found[3]["error"]
    assert 'must be {"text": "…"} or' in found[5]["error"]
    assert "nested too deeply" in found[7]["error"]


def test_a_blocked_record_is_no_failure(endpoint: Path) -> None:
    result = run("guard", "--policy", endpoint, "--jsonl", stdin='{"text": "project falcon"}\n')
    assert result.exit_code == 0
    assert json.loads(result.stdout)["blocked"] is True


def test_a_policy_that_is_wrong_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("inputs: []")
    result = run("guard", "--policy", tmp_path / "policy.yaml")
    assert (result.exit_code, result.stderr.count("did you mean `input`?")) == (2, 1)


def test_a_reader_that_leaves_is_no_traceback(endpoint: Path) -> None:
    command = [sys.executable, "-m", "tritonllm", "guard", "--policy", str(endpoint), "--jsonl"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    _, stderr = process.communicate(b'{"text": "a"}\n' * 1000)
    assert (process.returncode, stderr) == (1, b"")


def test_ctrl_c_is_no_traceback(endpoint: Path) -> None:
    command = [sys.executable, "-m", "tritonllm", "guard", "--policy", str(endpoint), "--jsonl"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b'{"text": "a"}\n')
        process.stdin.flush()
        process.stdout.readline()  # It is at work, and waits for more.
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, b"")


def test_serve_passes_its_options_on(endpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[serve.Options] = []
    monkeypatch.setattr(supervisor, "run", lambda options: seen.append(options) or 7)
    arguments = [
        "--weights",
        "w",
        "--host",
        "0.0.0.0",
        "--http-port",
        "1",
        "--grpc-port",
        "2",
        "--metrics-port",
        "3",
    ]
    arguments += ["--health-port", "4", "--drain-seconds", "5", "--allow-direct-engine", "--logs", "stderr"]
    arguments += [
        "--load-timeout",
        "60",
        "--gateway-port",
        "6",
        "--gateway-workers",
        "2",
        "--allow-anonymous",
    ]
    assert run("serve", endpoint, *arguments).exit_code == 7
    (options,) = seen
    assert options.files == (endpoint,)
    assert options.weights == str(Path.cwd() / "w")
    assert [port for _, port in options.ports()] == [1, 2, 3, 4, 6]
    assert (options.host, options.drain_seconds, options.logs) == ("0.0.0.0", 5, "stderr")
    assert options.allow_direct_engine
    assert options.load_timeout == 60
    assert options.gateway == serve_options.Gateway(port=6, workers=2, allow_anonymous=True)
    assert isinstance(options.reporter, serve.Lines)


@pytest.mark.parametrize(
    ("arguments", "gateway"),
    [(["--no-gateway"], False), (["--allow-anonymous"], True), (["--api-keys", "keys.yaml"], True)],
)
def test_beyond_the_loopback_the_gateway_needs_keys_or_permission_to_go_without(
    endpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], gateway: bool
) -> None:
    seen: list[serve.Options] = []
    monkeypatch.setattr(supervisor, "run", lambda options: seen.append(options) or 7)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.yaml").write_text(f"me: {{sha256: {'a' * 64}}}")
    assert "without API keys" in run("serve", endpoint, "--host", "0.0.0.0").stderr
    assert run("serve", endpoint, "--host", "0.0.0.0", *arguments).exit_code == 7
    assert (seen[0].gateway is not None) == gateway


def test_a_terminal_ends_with_a_request_to_paste() -> None:
    output = io.StringIO()
    terminal = serving.Terminal(
        rich.console.Console(file=output, force_terminal=True, no_color=True, highlight=False, width=200)
    )
    terminal.step("chat-engine: loading [1/3]")
    terminal.ready(serve.Serving("http://h:1", "h:2", "http://h:3", "http://h:4", ("chat",), ("bad",)))
    terminal.problem("bad: [x] could not be loaded")
    text = output.getvalue()
    assert "chat-engine: loading [1/3]" in text
    assert (
        """curl -s http://h:1/v2/models/chat/generate -d '{"text_input": "What is the capital of France?"}'"""
        in text
    )
    assert "bad: [x] could not be loaded" in text


def test_serve_says_what_is_wrong_with_permissions_before_anything_starts(
    endpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "allow.json"
    file.write_text('{"repo": []}')
    result = run("serve", endpoint, "--allow", file)
    assert result.exit_code == 2
    words = " ".join(result.stderr.split())
    assert "Invalid value for --allow:" in words
    assert "repo: unknown field `repo`; did you mean `repos`?" in words
