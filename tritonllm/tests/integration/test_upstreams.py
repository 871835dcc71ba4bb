"""Endpoints in front of an OpenAI API, which is the gateway of the same server: its simulated endpoints, asked with a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import yaml

from integration import ask, server
from tritonllm.runtime import metric_names

KEY = "sk-of-the-upstream"
HEAD = "apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\n"
SPEED = "inter_token_seconds: 0.01"
UPSTREAM = f"""{HEAD}
metadata: {{name: theirs}}
spec:
  pool: test
  engine: {{type: simulated, args: {{reply: echo, max_model_len: 2000, fail_on: please fail, {SPEED}}}}}
  guardrails:
    input: [{{name: seen, banned: {{phrases: [swordfish]}}, action: Flag}}]
    output: [{{name: theirs, banned: {{phrases: [pelican]}}, action: Block}}]
"""
IN_FRONT = """
metadata: {{name: {name}}}
spec:
  pool: test
  engine: {{type: openai, args: {{url: 'http://127.0.0.1:{port}/v1', model: {model}, api_key_name: {key}}}}}
  guardrails:
    input: [{{name: secrets, banned: {{phrases: [swordfish]}}, action: Block}}]
    output:
      - {{name: birds, banned: {{phrases: [peregrine falcon]}}, action: Mask}}
      - {{name: stop, banned: {{phrases: [abracadabra]}}, action: Block}}
  limits: {{requestTimeoutSeconds: {seconds}}}
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the API keys of upstreams."""
    directory = tmp_path_factory.mktemp("keys")
    (directory / "good").write_text(f"{KEY}\n")
    (directory / "bad").write_text("sk-another-one")
    return directory


@pytest.fixture(scope="module")
def served(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Served]:
    [port] = server.free_ports(1)
    accepted = tmp_path_factory.mktemp("gateway") / "keys.yaml"
    accepted.write_text(yaml.safe_dump({"upstream": {"sha256": hashlib.sha256(KEY.encode()).hexdigest()}}))
    cases = [
        ("ours", "theirs", "good", 60),
        ("brief", "theirs", "good", 3),
        ("locked-out", "theirs", "bad", 60),
        ("astray", "nothing", "good", 60),
    ]
    endpoints = [
        HEAD + IN_FRONT.format(name=name, port=port, model=model, key=key, seconds=seconds)
        for name, model, key, seconds in cases
    ]
    with server.running(
        [UPSTREAM, *endpoints],
        gateway={"port": port, "api_keys": str(accepted)},
        environment={"TRITONLLM_UPSTREAM_KEYS": str(keys)},
    ) as running:
        running.gateway = f"http://127.0.0.1:{port}"
        yield running


def client(served: server.Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.gateway}/v1", api_key=KEY, max_retries=0, timeout=30)


def chat(served: server.Served, prompt: str, model: str = "ours") -> tuple[list[str], str]:
    """The pieces of a streamed answer, and its finish reason or the error that ended it."""
    pieces, reason = [], ""
    try:
        for chunk in client(served).chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ):
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            reason = next((each.finish_reason for each in chunk.choices if each.finish_reason), reason)
    except openai.APIError as error:
        reason = str(error)
    return pieces, reason


def test_answers_and_counts_are_those_of_the_upstream(served: server.Served) -> None:
    messages = [{"role": "user", "content": "A story about the sea, please"}]
    theirs, ours = (
        client(served).chat.completions.create(model=model, messages=messages)  # type: ignore[call-overload]
        for model in ("theirs", "ours")
    )
    assert ours.choices[0].message.content == theirs.choices[0].message.content == messages[0]["content"]
    assert ours.choices[0].finish_reason == theirs.choices[0].finish_reason == "stop"
    assert ours.usage == theirs.usage
    pieces, reason = chat(served, messages[0]["content"])
    assert ("".join(pieces), reason) == (messages[0]["content"], "stop")
    assert len([each for each in pieces if each]) > 3


def test_a_prompt_without_a_chat_template_is_completed(served: server.Served) -> None:
    answer = client(served).completions.create(model="ours", prompt="Once upon a time", max_tokens=2)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Once upo", "length")
    assert ask.generate(served, "ours", text_input="Once upon a time")["text_output"] == "Once upon a time"


def test_calls_of_tools_pass(served: server.Served) -> None:
    tool = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"properties": {"city": {"type": "string"}}}},
    }
    answer = client(served).chat.completions.create(
        model="ours",
        messages=[{"role": "user", "content": "weather"}],
        tools=[tool],  # type: ignore[list-item]
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "weather"})
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_banned_phrase_that_the_upstream_sends_in_pieces_never_leaves(served: server.Served) -> None:
    pieces, reason = chat(served, "We saw a peregrine falcon there")
    assert ("".join(pieces), reason) == ("We saw a [REDACTED] there", "stop")
    pieces, reason = chat(served, "He said abracadabra and left")
    assert ("".join(pieces), reason) == ("He said ", "content_filter")


def test_a_banned_prompt_never_reaches_the_upstream(served: server.Served) -> None:
    def seen() -> float:
        return ask.metric(served, metric_names.VERDICTS, rule="seen", endpoint="theirs")

    _, reason = chat(served, "the sw0rdfish")
    assert "The prompt was blocked by the guardrail rule `secrets`" in reason
    assert chat(served, "the sw0rdfish", "theirs")[1] == "stop"
    server.until(lambda: seen() > 0, 60)
    assert seen() == 1


def test_a_filter_of_the_upstream_ends_the_answer_with_its_reason(served: server.Served) -> None:
    pieces, reason = chat(served, "We saw a pelican there")
    assert ("".join(pieces), reason) == ("We saw a ", "content_filter")


def test_a_client_that_leaves_ends_the_request_at_the_upstream(served: server.Served) -> None:
    def running() -> float:
        return ask.metric(served, metric_names.ENGINE_RUNNING, endpoint="theirs")

    server.until(lambda: running() == 0, 60)
    answer = ask.stream(served, "ours", text_input="x" * 3200, max_tokens=800)
    next(answer)
    server.until(lambda: running() == 1, 60)
    answer.close()  # pyright: ignore[reportAttributeAccessIssue]
    # At 0.01 s for each of 800 tokens, its own end is later.
    server.until(lambda: running() == 0, 6)


def test_the_deadline_of_the_endpoint_ends_the_request_with_its_text(served: server.Served) -> None:
    answer = ask.generate(served, "brief", text_input="x" * 3200, max_tokens=800)
    assert answer["finish_reason"] == "timeout"
    assert 0 < len(answer["text_output"]) < 3200


@pytest.mark.parametrize(
    ("model", "prompt", "status", "said"),
    [
        ("locked-out", "Hi", 503, "the upstream refuses the API key of this endpoint"),
        ("astray", "Hi", 503, "the upstream has no such model or no such route"),
        (
            "ours",
            "please fail after a few tokens",
            500,
            "the upstream failed before the answer was complete: the simulated engine",
        ),
        ("ours", "x" * 9000, 400, "the upstream refuses the request: "),
    ],
)
def test_a_failure_of_the_upstream_is_told_in_its_own_words(
    served: server.Served, model: str, prompt: str, status: int, said: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client(served).chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
    assert caught.value.status_code == status
    assert said in str(caught.value)


def test_a_new_key_needs_no_restart_and_none_is_ever_shown(served: server.Served, keys: Path) -> None:
    assert "refuses the API key" in chat(served, "Hi", "locked-out")[1]
    (keys / "bad").write_text(KEY)
    assert chat(served, "Hi", "locked-out")[1] == "stop"
    log = served.log.read_text()
    assert "refused a request for the model theirs with status 401 (API key: bad)" in log
    assert KEY not in log
    assert "sk-another-one" not in log
