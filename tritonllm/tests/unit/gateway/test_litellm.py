"""An endpoint's rules for LiteLLM: its generic guardrail API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import gateway_server
from fake_upstream import FakeUpstream
from tritonllm.gateway import app, litellm, stack


@contextlib.contextmanager
def serving(*names: str) -> Iterator[tuple[httpx.Client, FakeUpstream]]:
    upstream = FakeUpstream(*names)
    with (
        gateway_server.serve(stack.build(app.create_app(upstream), upstream, stack.Settings())) as served,
        httpx.Client(base_url=served.url, timeout=30, verify=False) as client,
    ):
        yield client, upstream


def request(*texts: str, **more: Any) -> dict[str, Any]:
    """What LiteLLM sends."""
    return {
        "input_type": "request",
        "litellm_call_id": "1",
        "litellm_trace_id": None,
        "structured_messages": None,
        "images": None,
        "tools": None,
        "texts": list(texts),
        "request_data": {"user_api_key_alias": "a"},
        "request_headers": {"authorization": "[present]"},
        "litellm_version": "1.110.2",
        "additional_provider_specific_params": {},
        "tool_calls": None,
        "model": "gpt-4o",
        **more,
    }


def test_texts_pass_are_replaced_or_are_blocked() -> None:
    with serving("chat") as (client, upstream):
        assert client.post(litellm.PATH, json=request("hello", "a mail")).json() == {"action": "NONE"}
        masked = client.post(litellm.PATH, json=request("to Berlin", "hello", input_type="response")).json()
        blocked = client.post(litellm.PATH, json=request("to Berlin", "the secret plan"))
    assert masked == {"action": "GUARDRAIL_INTERVENED", "texts": ["to [REDACTED]", "hello"]}
    assert blocked.json() == {"action": "BLOCKED", "blocked_reason": "Blocked by guardrail rules: secrets"}
    assert "plan" not in blocked.text
    assert upstream.checked[2:4] == [("chat", "to Berlin", "output"), ("chat", "hello", "output")]


def tool(description: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", "description": description, "parameters": {}}}


def call(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"tools": [tool("the secret")]}, "secrets"),
        ({"tools": [tool("goes to Berlin")]}, "cities"),
        ({"tool_calls": [call('{"to": "Berlin"}')]}, "cities"),
        # Escaped, as JSON allows.
        ({"tool_calls": [call('{"to": "\\u0042erlin"}')]}, "cities"),
    ],
)
def test_tools_and_their_arguments_are_blocked_where_a_text_would_be_masked(
    more: dict[str, Any], rule: str
) -> None:
    with serving("chat") as (client, _):
        answer = client.post(litellm.PATH, json=request("hello", **more)).json()
    assert answer == {"action": "BLOCKED", "blocked_reason": f"Blocked by guardrail rules: {rule}"}


def test_tools_and_arguments_without_a_match_pass() -> None:
    with serving("chat") as (client, _):
        body = request(
            "hello", tools=[tool("looks")], tool_calls=[call('{"a": [1, {"b": "c"}]}'), call("{broken")]
        )
        assert client.post(litellm.PATH, json=body).json() == {"action": "NONE"}


def test_of_several_endpoints_one_has_to_be_named() -> None:
    with serving("chat", "code") as (client, upstream):
        answer = client.post(litellm.PATH, json=request("hello"))
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "additional_provider_specific_params.model"
        assert "chat, code" in answer.json()["error"]["message"]

        named = request("hello", additional_provider_specific_params={"model": "code"})
        assert client.post(litellm.PATH, json=named).json() == {"action": "NONE"}
        assert upstream.checked == [("code", "hello", "input")]

        named = request("hello", additional_provider_specific_params={"model": "nothing"})
        assert client.post(litellm.PATH, json=named).status_code == 404
        assert 'endpoint="code"' in client.get("/metrics").text
        assert "nothing" not in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "param"),
    [([], None), ({}, "input_type"), (request(input_type="both"), "input_type"), (request() | {"texts": "a"}, "texts"), (request() | {"texts": [1]}, "texts")],
)  # fmt: skip
def test_what_is_no_such_request_is_400_with_the_field(body: Any, param: str | None) -> None:
    with serving("chat") as (client, _):
        answer = client.post(litellm.PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_failing_guardrail_is_an_error_and_not_a_pass() -> None:
    with serving("chat") as (client, _):
        answer = client.post(litellm.PATH, json=request("fails"))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "guardrail_failure"


def test_a_conversation_of_a_thousand_turns_is_checked() -> None:
    with serving("chat") as (client, upstream):
        answer = client.post(litellm.PATH, json=request(*["hello"] * 999, "Berlin"))
    assert answer.json()["texts"][-1] == "[REDACTED]"
    assert len(upstream.checked) == 1000
