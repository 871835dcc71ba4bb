"""Models, moderations, health, unknown paths, and bad input to every route."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import gateway_server
from scripted_upstream import ScriptedUpstream, end, piece
from tritonllm.gateway import app

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "chat", "prompt": "Hi"},
    "/v1/responses": {"model": "chat", "input": "Hi"},
    "/v1/moderations": {"model": "chat", "input": "Hi"},
}


@pytest.fixture(scope="module")
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream([piece("Hel"), end("lo")])


@pytest.fixture(scope="module")
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with gateway_server.serve(app.create_app(upstream)) as served:
        yield served.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_endpoints_are_models(client: openai.OpenAI, url: str) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.created, model.object, model.owned_by) == (
        "chat",
        1700000000,
        "model",
        "tritonllm",
    )
    assert client.models.retrieve("chat") == model
    assert httpx.get(f"{url}/v1/models/chat").headers["x-guardrail-policy"] == "policy-hash"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("other")
    assert missing.value.code == "model_not_found"


def test_the_gateway_is_healthy_with_an_endpoint_and_not_without(url: str) -> None:
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "endpoints": 1}
    empty = ScriptedUpstream([])
    empty.endpoints = lambda: {}
    with gateway_server.serve(app.create_app(empty)) as served:
        answer = httpx.get(f"{served.url}/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")


def test_rules_are_a_moderation_model(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    answer = client.moderations.create(model="chat", input=["a secret", "mail me", "fine"])
    assert answer.id.startswith("modr-")
    assert [result.flagged for result in answer.results] == [True, True, False]
    blocked, flagged, _ = [result.model_extra or {} for result in answer.results]
    assert (blocked["blocked"], blocked["text"]) == (True, "")
    assert (flagged["blocked"], flagged["text"]) == (False, "mail me")
    assert blocked["guardrails"] == [{"rule": "secrets", "action": "Block", "direction": "input", "count": 1}]
    assert upstream.checked[-3:] == [("chat", text, "input") for text in ("a secret", "mail me", "fine")]


def test_the_categories_of_a_moderation_are_rules(url: str, upstream: ScriptedUpstream) -> None:
    answer = httpx.post(
        f"{url}/v1/moderations", json={"model": "chat", "input": "Berlin", "direction": "output"}
    )
    assert answer.headers["x-guardrail-policy"] == "policy-hash"
    (result,) = answer.json()["results"]
    assert result["categories"] == {"cities": True}
    assert result["category_scores"] == {"cities": 1.0}
    assert result["text"] == "[REDACTED]"
    assert upstream.checked[-1] == ("chat", "Berlin", "output")


def test_a_guardrail_that_fails_is_an_error_of_the_moderation(url: str) -> None:
    answer = httpx.post(f"{url}/v1/moderations", json={"model": "chat", "input": ["fine", "fails"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "guardrail_failure")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": "x", "direction": "up"}, "direction"),
        ({"input": [{"type": "image_url"}]}, "input[0]"),
        ({}, "input"),
    ],
)
def test_a_wrong_moderation_is_refused_by_its_field(url: str, asked: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{url}/v1/moderations", json={"model": "chat", **asked})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/embeddings", 404, "not_found"),
        ("POST", "/v1", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/chat", 405, "method_not_allowed"),
    ],
)
def test_a_path_or_method_that_does_not_exist_is_an_error_of_openais(
    url: str, method: str, path: str, status: int, code: str
) -> None:
    answer = httpx.request(method, url + path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"model": NaN}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 100_000,
    ],
    ids=lambda content: content[:12].decode(errors="replace"),
)
def test_what_is_not_json_is_the_callers_mistake(url: str, path: str, content: bytes) -> None:
    answer = httpx.post(url + path, content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_argument"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("value", [None, 5, "", [], {}, [[]], {"a": 1}, True, 1e300, "x" * 10_000], ids=str)
def test_a_wrong_type_anywhere_is_the_callers_mistake_and_never_ours(url: str, path: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > 100:
        value = value[:200]
    for field in [
        *BODIES[path],
        "stream",
        "tools",
        "stop",
        "n",
        "temperature",
        "stream_options",
        "response_format",
        "new",
    ]:
        answer = httpx.post(url + path, json={**BODIES[path], field: value})
        assert answer.status_code in (200, 400, 404), (field, answer.text)
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] in ("invalid_argument", "model_not_found"), field


# The rules of the fake are those of any endpoint.
@pytest.mark.parametrize("path", [path for path in BODIES if path != "/v1/moderations"])
def test_an_endpoint_that_does_not_exist_is_404(url: str, path: str) -> None:
    answer = httpx.post(url + path, json={**BODIES[path], "model": "other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_conversation_of_a_thousand_messages_is_answered(url: str, upstream: ScriptedUpstream) -> None:
    messages = [{"role": "user" if index % 2 == 0 else "assistant", "content": "x"} for index in range(1001)]
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "chat", "messages": messages})
    assert answer.status_code == 200
    assert json.loads(upstream.asked[-1]["messages"]) == messages


@pytest.mark.parametrize(
    "many",
    [
        {"messages": [1] * 60_000},
        {"messages": CHAT["messages"] * 20_000},
        {f"key{number}": 1 for number in range(60_000)},
        {"stop": [[[[1]]]] * 20_000},
    ],
    ids=["wrong", "messages", "keys", "nested"],
)
def test_a_body_of_too_many_values_is_refused_before_they_are_validated(url: str, many: Any) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT | many)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_a_long_text_with_many_commas_is_answered(url: str) -> None:
    long = {"role": "user", "content": "one, two, " * 60_000}
    assert httpx.post(f"{url}/v1/chat/completions", json=CHAT | {"messages": [long]}).status_code == 200


def test_a_thousand_wrong_messages_are_described_briefly(url: str) -> None:
    messages = [{"role": "king", "content": 5, "new": 1} for _ in range(1000)]
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "chat", "messages": messages})
    assert answer.status_code == 400
    assert len(answer.text) < 2000


@pytest.mark.parametrize("depth", [100, 300, 900])
@pytest.mark.parametrize("place", ["schema", "unknown field", "wrong type"])
def test_a_deep_value_in_a_field_is_the_callers_mistake(url: str, depth: int, place: str) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    fields = {
        "schema": f'"tools": [{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}]',
        "unknown field": f'"new": {deep}',
        "wrong type": f'"temperature": {deep}',
    }
    content = json.dumps(CHAT)[:-1] + f", {fields[place]}}}"
    answer = httpx.post(f"{url}/v1/chat/completions", content=content)
    assert answer.status_code == (200 if place == "schema" and depth == 100 else 400), answer.text
