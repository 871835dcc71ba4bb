"""The commands that ask a server: generate and chat."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing

import fake_triton
from tritonllm import cli

pytestmark = pytest.mark.timeout(60)

BLOCK = {
    "finish_reason": ["content_filter"],
    "guardrail": [json.dumps([{"rule": "secret", "action": "Block", "direction": "input", "count": 1}])],
}


@pytest.fixture
def triton() -> Iterator[fake_triton.FakeTriton]:
    server = fake_triton.FakeGrpc()
    yield server
    server.stop()


def run(*arguments: str | Path, stdin: str = "") -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


def echo(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answers with the prompt."""
    return fake_triton.say(inputs["text_input"], "!")(inputs)


def test_an_answer_is_printed(triton: fake_triton.FakeTriton) -> None:
    triton.models["chat"] = fake_triton.say("Grün", " ist gut")
    result = run(
        "generate", "chat", "Hi", "--url", triton.url, "--max-tokens", "5", "--stop", "a", "--stop", "b"
    )
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Grün ist gut\n", "")
    assert json.loads(triton.asked[0]["sampling_parameters"]) == {"max_tokens": 5, "stop": ["a", "b"]}


def test_http_is_asked_on_request() -> None:
    server = fake_triton.FakeHttp()
    server.models["chat"] = fake_triton.say("a", "b")
    try:
        address = server.url.removeprefix("http://")
        result = run("generate", "chat", "Hi", "--url", address, "--protocol", "http", "--verbose")
    finally:
        server.stop()
    assert (result.stdout, result.stderr) == ("ab\n", "[finish reason stop; 3 tokens in, 2 out]\n")


def test_a_system_turn_makes_it_a_conversation(triton: fake_triton.FakeTriton) -> None:
    triton.models["chat"] = fake_triton.say("a")
    run("generate", "chat", "Hi", "--url", triton.url, "--system", "Be kind.")
    assert [turn["content"] for turn in json.loads(triton.asked[0]["messages"])] == ["Be kind.", "Hi"]


def test_a_refused_prompt_has_its_own_exit_code(triton: fake_triton.FakeTriton) -> None:
    triton.models["chat"] = fake_triton.say("", **BLOCK)
    result = run("generate", "chat", "Hi", "--url", triton.url)
    assert result.exit_code == 3
    assert "input rule secret: Block (1)" in result.stderr


def test_a_failure_is_one_line(triton: fake_triton.FakeTriton) -> None:
    result = run("generate", "chta", "Hi", "--url", triton.url)
    assert result.exit_code == 1
    assert result.stderr.startswith("tritonllm: the server has no loaded model `chta`")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a prompt or --prompts FILE is required"),
        (["Hi", "--prompts", "x"], "either a prompt or --prompts FILE is required"),
        (["Hi", "--iterations", "2"], "require --prompts FILE"),
        (["--prompts", "/nonexistent"], "/nonexistent: No such file or directory"),
        (["Hi", "--url", "ftp://x"], "url: must be like localhost:8001"),
        (["Hi", "--temperature", "-1"], "sampling_parameters.temperature: must be"),
        ([""], "text_input: is empty"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], message: str) -> None:
    result = run("generate", "chat", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_results_are_in_the_order_of_the_prompts(triton: fake_triton.FakeTriton, tmp_path: Path) -> None:
    second_was_asked = threading.Event()

    def model(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if inputs["text_input"] == "one":
            assert second_was_asked.wait(30)
        second_was_asked.set()
        return echo(inputs)

    triton.models["chat"] = model
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\r\nthree")
    result = run("generate", "chat", "--prompts", tmp_path / "prompts.txt", "--url", triton.url)
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(record["line"], record["text"]) for record in found] == [(1, "one!"), (3, "two!"), (4, "three!")]
    assert found[0].pop("seconds") >= 0
    assert found[0] == {
        "line": 1,
        "iteration": 0,
        "ok": True,
        "text": "one!",
        "finish_reason": "stop",
        "input_tokens": 3,
        "output_tokens": 2,
        "verdicts": [],
    }
    assert result.stderr.startswith("3 ok (0 of them blocked by a guardrail), 0 failed; 6 tokens in ")


def test_failures_are_results_too(triton: fake_triton.FakeTriton, tmp_path: Path) -> None:
    def model(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if inputs["text_input"] == "bad":
            raise fake_triton.Refused("[queue_full] 5 requests wait")
        if inputs["text_input"] == "secret":
            return fake_triton.say("", **BLOCK)(inputs)
        return echo(inputs)

    triton.models["chat"] = model
    prompts, results = tmp_path / "prompts.txt", tmp_path / "results.jsonl"
    prompts.write_bytes(b"good\nbad\n\xff\nsecret\n")
    result = run("generate", "chat", "--prompts", prompts, "--results", results, "--url", triton.url)
    assert result.exit_code == 1
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert [record["ok"] for record in found] == [True, False, False, True]
    assert found[1]["error"] == {"type": "QueueFull", "message": "5 requests wait"}
    assert found[2]["error"] == {"type": "InvalidRequest", "message": "is not UTF-8: bad byte at offset 0"}
    assert found[3]["verdicts"][0]["rule"] == "secret"
    assert "line 2, iteration 0: QueueFull: 5 requests wait\n" in result.stderr
    assert "2 ok (1 of them blocked by a guardrail), 2 failed" in result.stderr


def test_a_jsonl_file_brings_its_own_parameters(triton: fake_triton.FakeTriton, tmp_path: Path) -> None:
    triton.models["chat"] = fake_triton.say("a")
    turns = [{"role": "user", "content": "Hi"}]
    lines = [
        {"prompt": "a", "sampling": {"max_tokens": 7}},
        {"text_input": "b"},
        {"messages": turns},
        {"prompt": "d", "max_tokens": 5},
        {"prompt": "e", "sampling": {"max_token": 5}},
        ["f"],
        {"prompt": "g", "sampling": 5},
    ]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    result = run(
        "generate",
        "chat",
        "--prompts",
        prompts,
        "--url",
        triton.url,
        "--max-tokens",
        "3",
        "--concurrency",
        "1",
    )
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["ok"] for record in found] == [True, True, True, False, False, False, False, False]
    assert [json.loads(inputs["sampling_parameters"])["max_tokens"] for inputs in triton.asked] == [7, 3, 3]
    assert json.loads(triton.asked[2]["messages"]) == turns
    assert "max_tokens" in found[3]["error"]["message"]
    assert "did you mean `max_tokens`?" in found[4]["error"]["message"]
    assert "is not JSON" in found[7]["error"]["message"]


def test_iterations_ask_everything_again(triton: fake_triton.FakeTriton, tmp_path: Path) -> None:
    triton.models["chat"] = echo
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    result = run(
        "generate", "chat", "--prompts", tmp_path / "prompts.txt", "--iterations", "2", "--url", triton.url
    )
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(record["iteration"], record["text"]) for record in found] == [
        (0, "one!"),
        (0, "two!"),
        (1, "one!"),
        (1, "two!"),
    ]


def test_never_more_requests_at_once_than_asked_for(triton: fake_triton.FakeTriton, tmp_path: Path) -> None:
    lock = threading.Lock()
    now, most = 0, 0

    def model(inputs: dict[str, Any]) -> Iterator[Any]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        for _ in range(5):
            yield fake_triton.WAIT
        with lock:
            now -= 1
        yield from echo(inputs)

    triton.models["chat"] = model
    (tmp_path / "prompts.txt").write_text("x\n" * 12)
    arguments = ("--prompts", tmp_path / "prompts.txt", "--concurrency", "3", "--url", triton.url)
    assert run("generate", "chat", *arguments).exit_code == 0
    assert most == 3


def test_a_conversation_is_kept(triton: fake_triton.FakeTriton) -> None:
    triton.models["chat"] = fake_triton.say("Hel", "lo")
    result = run("chat", "chat", "--url", triton.url, "--system", "Be kind.", stdin="Hi\n\nBye\n")
    assert (result.exit_code, result.stdout) == (0, "Hello\nHello\n")
    turns = [(turn["role"], turn["content"]) for turn in json.loads(triton.asked[1]["messages"])]
    assert turns == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]


def test_a_refused_turn_is_shown_and_forgotten(triton: fake_triton.FakeTriton) -> None:
    triton.models["chat"] = fake_triton.say("", **BLOCK)
    result = run("chat", "chat", "--url", triton.url, stdin="secret\nBye\n")
    assert "finish reason content_filter" in result.stderr
    assert [turn["content"] for turn in json.loads(triton.asked[1]["messages"])] == ["Bye"]


def test_a_conversation_survives_an_error(triton: fake_triton.FakeTriton) -> None:
    answers = iter([fake_triton.Refused("[queue_full] 5 requests wait"), None])

    def model(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if (error := next(answers)) is not None:
            raise error
        return fake_triton.say("Hello")(inputs)

    triton.models["chat"] = model
    result = run("chat", "chat", "--url", triton.url, stdin="a\nb\n")
    assert result.exit_code == 0
    assert "QueueFull: 5 requests wait" in result.stderr
    assert result.stdout.endswith("Hello\n")


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(triton: fake_triton.FakeTriton) -> None:
    def model(inputs: dict[str, Any]) -> Iterator[Any]:
        if len(triton.asked) > 1:
            yield from fake_triton.say("Bye")(inputs)
            return
        for number in itertools.count():
            yield {"text_output": [f"{number} "]}
            yield fake_triton.WAIT

    triton.models["chat"] = model
    command = [sys.executable, "-m", "tritonllm", "chat", "chat", "--url", triton.url]
    # A terminal, so that the answer is shown as it is written.
    ours, theirs = pty.openpty()
    with started(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = Screen(ours)
        screen.until(b"> ")
        os.write(ours, b"Count\n")
        screen.until(b"3 ")
        process.send_signal(signal.SIGINT)
        assert b"Traceback" not in screen.until(b"[stopped]")
        assert triton.left.wait(30)
        screen.until(b"> ")
        os.write(ours, b"And now?\n")
        screen.until(b"Bye")
        screen.until(b"> ")
        os.write(ours, b"\x04")
        assert process.wait(30) == 0
    os.close(ours)
    turns = json.loads(triton.asked[1]["messages"])
    assert turns[1]["role"] == "assistant"
    assert turns[1]["content"].startswith("0 1 2 3 ")


def test_ctrl_c_at_the_prompt_says_how_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    pressed = iter([KeyboardInterrupt(), EOFError()])

    def prompt(_: str) -> str:
        raise next(pressed)

    monkeypatch.setattr("builtins.input", prompt)
    result = run("chat", "chat")
    assert (result.exit_code, result.stderr) == (0, "\n(Ctrl-D exits)\n")


@contextlib.contextmanager
def started(command: list[str], **pipes: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that ends with the block, whatever happens in it."""
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


class Screen:
    """What a terminal shows."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._ahead = b""

    def until(self, text: bytes) -> bytes:
        """What it shows up to a text. pytest's timeout is the deadline."""
        while text not in self._ahead:
            self._ahead += os.read(self._terminal, 4096)
        seen, _, self._ahead = self._ahead.partition(text)
        return seen


def test_ctrl_c_ends_a_batch_without_a_traceback(triton: fake_triton.FakeTriton, tmp_path: Path) -> None:
    def silent(inputs: dict[str, Any]) -> Iterator[Any]:
        yield from itertools.repeat(fake_triton.WAIT)

    triton.models["chat"] = silent
    (tmp_path / "prompts.txt").write_text("x\n" * 3)
    command = [sys.executable, "-m", "tritonllm", "generate", "chat", "--url", triton.url]
    command += ["--prompts", str(tmp_path / "prompts.txt")]
    with started(command, stderr=subprocess.PIPE) as process:
        assert process.stderr
        while len(triton.asked) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, b"")
    assert triton.left.wait(30)
