"""The commands that ask, against the real tritonserver; and `serve`, as a person starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import server

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: echo}
spec:
  pool: test
  engine: {type: simulated, args: {reply: echo, fail_on: please fail}}
  guardrails:
    input: [{name: secret, banned: {phrases: [launch codes]}, action: Block}]
    output: [{name: bird, banned: {phrases: [falcon]}, action: Mask}]
"""


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    with server.running([ENDPOINT]) as running:
        yield running


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tritonllm", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def test_a_prompt_is_answered(served: server.Served) -> None:
    for url in (served.grpc, served.http):
        result = run("generate", "echo", "One falcon", "--url", url, "--verbose")
        assert (result.returncode, result.stdout) == (0, "One [REDACTED]\n")
        assert "output rule bird: Mask (1)" in result.stderr


def test_a_refused_prompt_has_its_own_exit_code(served: server.Served) -> None:
    result = run("generate", "echo", "the launch codes", "--url", served.grpc)
    assert (result.returncode, result.stdout) == (3, "\n")


def test_a_file_of_prompts_becomes_a_file_of_results(served: server.Served, tmp_path: Path) -> None:
    prompts = [f"number {number}" for number in range(40)]
    prompts[7], prompts[9] = "the launch codes", "please fail in the middle of the answer"
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    arguments = ("--prompts", tmp_path / "prompts.txt", "--results", tmp_path / "results.jsonl")
    result = run(
        "generate", "echo", *arguments, "--url", served.grpc, "--concurrency", "8", "--iterations", "2"
    )
    assert result.returncode == 1
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [record["line"] for record in found] == [*range(1, 41)] * 2
    assert [record["line"] for record in found if not record["ok"]] == [10, 10]
    assert found[9]["error"]["type"] == "EngineFailed"
    assert found[7]["finish_reason"] == "content_filter"
    assert found[79]["text"] == "number 39"
    assert "78 ok (2 of them blocked by a guardrail), 2 failed" in result.stderr


def test_a_conversation_is_held(served: server.Served) -> None:
    result = run("chat", "echo", "--url", served.grpc, stdin="Hello\nthe launch codes\nBye\n")
    assert (result.returncode, result.stdout.splitlines()) == (0, ["Hello", "", "Bye"])
    assert "input rule secret: Block (1)" in result.stderr


def test_serve_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "echo.yaml").write_text(ENDPOINT)
    names = ("--http-port", "--grpc-port", "--metrics-port", "--health-port")
    ports = server.free_ports(4)
    command = [sys.executable, "-m", "tritonllm", "serve", str(tmp_path / "echo.yaml")]
    command += [str(part) for pair in zip(names, ports, strict=True) for part in pair]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ
    ) as process:
        try:
            assert process.stderr
            lines = []
            for line in process.stderr:
                lines.append(line)
                if line.startswith("ready"):
                    break
            assert lines[-1:] == [f"ready: echo at http://127.0.0.1:{ports[0]}\n"], "".join(lines)
            result = run("generate", "echo", "Hello", "--url", f"127.0.0.1:{ports[1]}")
            assert (result.returncode, result.stdout) == (0, "Hello\n")
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
