"""The client over OpenAI's API: the gateway's own routes, with answers that the test writes down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_server
from scripted_upstream import ScriptedUpstream, end, piece
from tritonllm import client, errors
from tritonllm.client import openai_transport
from tritonllm.gateway import app, keys, stack

MASKED = {"rule": "names", "action": "Mask", "direction": "output", "count": 1}
BLOCKED = {"rule": "secrets", "action": "Block", "direction": "input", "count": 1}


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream([piece("Hel"), piece("lo"), end("!", guardrail=[MASKED])])


@pytest.fixture
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with gateway_server.serve(app.create_app(upstream)) as served:
        yield f"{served.url}/v1"


def test_a_prompt_is_answered_as_through_triton(url: str, upstream: ScriptedUpstream) -> None:
    with client.Client(url) as asker:
        answer = asker.generate("chat", "Hi", max_tokens=5, stop=["x"])
    assert (answer.text, answer.finish_reason) == ("Hello!", "stop")
    assert (answer.input_tokens, answer.output_tokens) == (7, 3)
    assert answer.verdicts == (client.Verdict("names", "Mask", "output", 1),)
    assert upstream.asked[0]["text_input"] == "Hi"
    assert upstream.sampling() == {"max_tokens": 5, "stop": ["x"], "n": 1}


def test_a_conversation_is_streamed(url: str, upstream: ScriptedUpstream) -> None:
    with client.Client(f"{url}/") as asker:
        stream = asker.stream("chat", messages=[{"role": "user", "content": "Hi"}])
        assert [chunk.text for chunk in stream] == ["Hel", "lo", "!"]
        assert stream.answer.text == "Hello!"
    assert json.loads(upstream.asked[0]["messages"]) == [{"role": "user", "content": "Hi"}]


def test_several_choices_have_their_own_texts_and_ends(url: str, upstream: ScriptedUpstream) -> None:
    upstream.script = [piece("a", "x"), end("b", "", finish_reason=["stop", "length"])]
    with client.Client(url) as asker:
        answer = asker.generate("chat", "Hi", n=2)
    assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [
        ("ab", "stop"),
        ("x", "length"),
    ]
    assert answer.output_tokens == 4


def test_a_blocked_prompt_is_an_answer(url: str, upstream: ScriptedUpstream) -> None:
    upstream.script = [end("", reason="content_filter", guardrail=[BLOCKED], num_output_tokens=[0])]
    with client.Client(url) as asker:
        answer = asker.generate("chat", "Hi")
    assert (answer.text, answer.finish_reason, answer.output_tokens) == ("", "content_filter", 0)
    assert answer.verdicts == (client.Verdict("secrets", "Block", "input", 1),)


def test_the_rules_can_be_asked_alone(url: str) -> None:
    with client.Client(url) as asker:
        found = asker.check("chat", "a text")
    assert not found.blocked


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            errors.RequestError("invalid_argument", "sampling_parameters.max_tokens", "is high"),
            client.InvalidRequest,
        ),
        (errors.RequestError("queue_full", "", "full"), client.QueueFull),
        (errors.RequestError("engine_failure", "", "broken"), client.EngineFailed),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_an_error_is_that_of_the_endpoint(
    error: errors.RequestError,
    expected: type[client.TritonLLMError],
    late: bool,
    url: str,
    upstream: ScriptedUpstream,
) -> None:
    upstream.script = [piece("a"), error] if late else [error]
    with client.Client(url) as asker, pytest.raises(expected) as caught:
        asker.generate("chat", "Hi")
    assert caught.value.field == ("max_tokens" if error.field else "")


def test_a_model_that_does_not_exist_is_not_found(url: str) -> None:
    with client.Client(url) as asker, pytest.raises(client.ModelNotFound):
        asker.generate("other", "Hi")


def test_log_probabilities_are_refused_before_anything_is_sent(url: str, upstream: ScriptedUpstream) -> None:
    with client.Client(url) as asker, pytest.raises(client.InvalidRequest, match="not supported with OpenAI"):
        asker.generate("chat", "Hi", logprobs=1)
    assert upstream.asked == []


def test_the_key_is_taken_from_the_environment(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, digest = keys.create()
    file = tmp_path / "keys.yaml"
    file.write_text(f"me: {{sha256: {digest}}}")
    built = stack.build(app.create_app(upstream), upstream, stack.Settings(keys=keys.KeyFile([file])))
    with gateway_server.serve(built) as served:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
        with client.Client(f"{served.url}/v1") as asker, pytest.raises(client.PermissionDenied):
            asker.generate("chat", "Hi")
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        with client.Client(f"{served.url}/v1") as asker:
            assert asker.generate("chat", "Hi").text == "Hello!"


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with client.Client("http://127.0.0.1:9/v1") as asker, pytest.raises(client.ServerUnreachable):
        asker.generate("chat", "Hi")


@pytest.mark.parametrize("url", ["http://localhost/v2", "grpc://localhost:8001/v1", "localhost:8001/v1"])
def test_other_paths_are_refused(url: str) -> None:
    with pytest.raises(client.InvalidRequest, match="/v1 for OpenAI's API"):
        client.Client(url)


def test_errors_of_other_servers_are_read_by_their_status() -> None:
    found = openai_transport.classify({"error": {"message": "Not here", "code": 404}}, 404)
    assert isinstance(found, client.ModelNotFound)
    assert isinstance(openai_transport.classify({"error": "Broken"}, 500), client.ServerFailed)
