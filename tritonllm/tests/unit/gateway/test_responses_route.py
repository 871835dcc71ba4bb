"""`POST /v1/responses`, asked by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import gateway_server
from scripted_upstream import ScriptedUpstream, end, piece
from tritonllm import errors
from tritonllm.gateway import app

BLOCKED = {"rule": "secrets", "action": "Block", "direction": "input", "count": 1}
CALL = '[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\\"a\\":"}}]'
REST = '[{"index":0,"function":{"arguments":"1}"}}]'


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(
        [
            piece("", reasoning_output=["hm"]),
            piece("Hel"),
            piece("lo"),
            piece("", tool_calls=[CALL]),
            end("", tool_calls=[REST], reason="tool_calls"),
        ]
    )


@pytest.fixture
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with gateway_server.serve(app.create_app(upstream)) as served:
        yield f"{served.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_an_answer_has_reasoning_message_and_calls(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="chat", input="Hi")
    reasoning, message, call = answer.output
    assert reasoning.type == "reasoning"
    assert [part.text for part in reasoning.content or []] == ["hm"]
    assert message.type == "message"
    assert answer.output_text == "Hello"
    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("call_1", "f", '{"a":1}')
    assert answer.status == "completed"
    assert (answer.model_extra or {})["store"] is False
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 5)


def test_a_stream_builds_the_same_answer(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="chat", input="Hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello"
    with client.responses.stream(model="chat", input="Hi") as stream:
        assert stream.get_final_response().output_text == "Hello"


def test_a_conversation_reaches_the_pipeline_as_messages(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "What is "}, {"type": "input_text", "text": "a?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait.", "annotations": []}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "fc_1", "status": "completed"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "5"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "6"}]},
    ]  # fmt: skip
    tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    client.responses.create(
        model="chat",
        input=items,
        instructions="Be brief.",
        tools=[tool],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
        reasoning={"effort": "low"},
        max_output_tokens=9,
        temperature=0.5,
    )

    def call(identifier: str) -> dict[str, Any]:
        return {"id": identifier, "type": "function", "function": {"name": "f", "arguments": "{}"}}

    assert json.loads(upstream.asked[-1]["messages"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is a?"},
        {"role": "assistant", "content": "Wait.", "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "1", "content": "5"},
        {"role": "tool", "tool_call_id": "2", "content": "6"},
    ]
    assert json.loads(upstream.asked[-1]["chat_options"]) == {
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "reasoning_effort": "low",
    }
    assert upstream.sampling() == {
        "n": 1,
        "max_tokens": 9,
        "temperature": 0.5,
        "structured_outputs": {"json": {"type": "object"}},
    }


@pytest.mark.parametrize(
    ("reason", "said"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete(
    client: openai.OpenAI, upstream: ScriptedUpstream, reason: str, said: str
) -> None:
    upstream.script = [piece("Hel"), end("", reason=reason)]
    answer = client.responses.create(model="chat", input="Hi")
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == said
    assert answer.output_text == "Hel"
    *_, last = client.responses.create(model="chat", input="Hi", stream=True)
    assert last.type == "response.incomplete"


def test_an_answer_without_a_text_has_an_empty_message(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = [end("")]
    answer = client.responses.create(model="chat", input="Hi")
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == ""


def test_a_blocked_prompt_names_its_item(url: str, upstream: ScriptedUpstream) -> None:
    where = {"field": "messages[1].content"}
    upstream.script = [end("", reason="content_filter", guardrail=[BLOCKED | where])]
    items = [{"role": "user", "content": "a secret"}, {"role": "user", "content": "fine"}]
    answer = httpx.post(f"{url}/responses", json={"model": "chat", "input": items, "instructions": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "content_filter"
    assert answer.json()["error"]["param"] == "input[0].content"


def test_an_endpoint_can_answer_a_blocked_prompt_with_a_refusal(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = [end("", reason="content_filter", guardrail=[BLOCKED])]
    upstream.refusal = "Message"
    answer = client.responses.create(model="chat", input="Hi")
    (message,) = answer.output
    assert message.type == "message"
    assert [part.type for part in message.content] == ["refusal"]
    assert answer.status == "incomplete"


def test_a_failure_in_the_middle_is_an_error_and_a_failed_response(
    url: str, upstream: ScriptedUpstream
) -> None:
    upstream.script = [piece("Hel"), errors.RequestError("engine_failure", "", "the engine has died")]
    answer = httpx.post(f"{url}/responses", json={"model": "chat", "input": "Hi", "stream": True})
    *_, error, failed, done = [block.partition("data: ")[2] for block in answer.text.split("\n\n") if block]
    assert json.loads(error)["message"] == "the engine has died"
    assert json.loads(error)["code"] == "engine_failure"
    assert json.loads(failed)["response"]["status"] == "failed"
    assert done == "[DONE]"


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        ({"store": True}, "store", "Nothing is stored"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole conversation"),
        ({"background": True}, "background", "Nothing is stored"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type", "must be one of"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "must be one of"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].arguments", "is required"),
        ({"input": [{"content": "x"}]}, "input[0].role", "is required"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "must be `function`"),
        ({"tool_choice": "required"}, "tool_choice", "requires `tools`"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema", "is required"),
        ({"max_tokens": 5}, "max_tokens", "unknown field"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_callers_field(
    url: str, asked: dict[str, Any], param: str, said: str
) -> None:
    answer = httpx.post(f"{url}/responses", json={"model": "chat", "input": "Hi", **asked})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert said in answer.json()["error"]["message"]


def test_a_field_of_the_pipeline_has_the_callers_name(url: str, upstream: ScriptedUpstream) -> None:
    body = {"model": "chat", "input": "Hi", "max_output_tokens": 5}
    upstream.script = [errors.RequestError("invalid_argument", "sampling_parameters.max_tokens", "too many")]
    assert httpx.post(f"{url}/responses", json=body).json()["error"]["param"] == "max_output_tokens"
    upstream.script = [errors.RequestError("invalid_argument", "messages[0].content", "too long")]
    assert httpx.post(f"{url}/responses", json=body).json()["error"]["param"] == "input"
