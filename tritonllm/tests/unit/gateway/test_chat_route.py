"""`POST /v1/chat/completions`, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
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

HI: Any = [{"role": "user", "content": "Hi"}]
MASKED = {"rule": "names", "action": "Mask", "direction": "output", "count": 1}
BLOCKED = {"rule": "secrets", "action": "Block", "direction": "input", "count": 1}
WHERE = {"field": "messages[1].content"}


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream([piece("Hel"), piece("lo"), end("!", guardrail=[MASKED])])


@pytest.fixture
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with gateway_server.serve(app.create_app(upstream)) as served:
        yield f"{served.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def events(text: str) -> list[Any]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


def test_an_answer_is_one_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="chat", messages=HI)
    (choice,) = answer.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (
        "Hello!",
        "assistant",
        "stop",
    )
    assert choice.message.tool_calls is None
    assert answer.usage is not None
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
    }
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "chat"
    assert (answer.model_extra or {})["guardrails"] == [MASKED]


def test_a_stream_has_a_role_deltas_a_finish_reason_and_the_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="chat", messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )
    *with_choice, usage = chunks
    deltas = [chunk.choices[0].delta for chunk in with_choice]
    assert deltas[0].role == "assistant"
    assert [delta.content for delta in deltas] == ["", "Hel", "lo", "!", None]
    assert [chunk.choices[0].finish_reason for chunk in with_choice] == [None, None, None, None, "stop"]
    assert (with_choice[-1].model_extra or {})["guardrails"] == [MASKED]
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 10
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_asynchronous_client_gets_the_same(url: str) -> None:
    async def ask() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            whole = await client.chat.completions.create(model="chat", messages=HI)
            stream = await client.chat.completions.create(model="chat", messages=HI, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content, "".join(parts)

    assert asyncio.run(ask()) == ("Hello!", "Hello!")


def test_chunks_have_the_fields_that_strict_clients_ask_for(url: str) -> None:
    answer = httpx.post(f"{url}/chat/completions", json={"model": "chat", "messages": HI, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-guardrail-policy"] == "policy-hash"
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    for chunk in map(json.loads, chunks):
        assert chunk["object"] == "chat.completion.chunk"
        assert "usage" not in chunk
        (choice,) = chunk["choices"]
        assert choice.keys() == {"index", "delta", "logprobs", "finish_reason"}
        assert "tool_calls" not in choice["delta"]


def test_the_usage_is_null_until_the_last_chunk(url: str) -> None:
    body = {"model": "chat", "messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, _ = events(httpx.post(f"{url}/chat/completions", json=body).text)
    assert all(json.loads(chunk)["usage"] is None for chunk in chunks)
    assert json.loads(last)["usage"]["completion_tokens"] == 3


def test_the_usage_can_be_in_every_chunk(url: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": "chat", "messages": HI, "stream": True, "stream_options": options}
    *chunks, _ = events(httpx.post(f"{url}/chat/completions", json=body).text)
    assert [json.loads(chunk)["usage"]["prompt_tokens"] for chunk in chunks] == [7] * len(chunks)


def test_each_of_n_choices_has_its_own_text_and_end(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = [
        piece("a", "x"),
        piece("b", "", finish_reason=["None", "length"]),
        end("c", "", finish_reason=["stop", "length"]),
    ]
    answer = client.chat.completions.create(model="chat", messages=HI, n=2)
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in answer.choices] == [
        (0, "abc", "stop"),
        (1, "x", "length"),
    ]
    assert upstream.sampling()["n"] == 2

    found: dict[int, list[Any]] = {0: [], 1: []}
    last = None
    for chunk in client.chat.completions.create(model="chat", messages=HI, n=2, stream=True):
        (choice,) = chunk.choices
        found[choice.index] += [choice.delta.content, choice.finish_reason]
        last = chunk
    assert found == {
        0: ["", None, "a", None, "b", None, "c", None, None, "stop"],
        1: ["", None, "x", None, None, "length"],
    }
    assert last is not None
    assert "guardrails" in (last.model_extra or {})


def test_reasoning_and_tool_calls_have_fields_of_their_own(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = [
        piece("", reasoning_output=["Let me "], tool_calls=[""]),
        piece("", reasoning_output=["see."], tool_calls=["[]"]),
        piece(
            "",
            tool_calls=[
                '[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]'
            ],
        ),
        piece("", tool_calls=['[{"index":0,"function":{"arguments":"{\\"a\\":"}}]']),
        end("", tool_calls=['[{"index":0,"function":{"arguments":"1}"}}]'], reason="tool_calls"),
    ]
    tools: Any = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "default": None}}}
    ]
    answer = client.chat.completions.create(model="chat", messages=HI, tools=tools, tool_choice="auto")
    message = answer.choices[0].message
    assert message.content is None
    assert (message.model_extra or {})["reasoning"] == "Let me see."
    (call,) = message.tool_calls or []
    assert call.model_dump() == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":1}'},
    }
    assert answer.choices[0].finish_reason == "tool_calls"
    assert json.loads(upstream.asked[-1]["chat_options"]) == {"tools": tools, "tool_choice": "auto"}

    deltas = [
        chunk.choices[0].delta
        for chunk in client.chat.completions.create(model="chat", messages=HI, tools=tools, stream=True)
    ]
    assert [(delta.model_extra or {}).get("reasoning") for delta in deltas[1:3]] == ["Let me ", "see."]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert calls[0].type == "function"
    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"a":1}'
    assert not any(delta.tool_calls == [] for delta in deltas)


def test_a_conversation_with_tools_reaches_the_pipeline_in_openais_format(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: Any = [
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
        },
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "1", "content": "5"},
    ]
    client.chat.completions.create(model="chat", messages=messages)
    assert json.loads(upstream.asked[-1]["messages"]) == [
        messages[0],
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call]},
        messages[3],
    ]
    assert "chat_options" not in upstream.asked[-1]


def test_log_probabilities_are_in_openais_form(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    position = {
        "5": {"logprob": -2.0, "rank": 3, "decoded_token": "é"},
        "7": {"logprob": -0.1, "rank": 1, "decoded_token": "a"},
        "8": {"logprob": -1e30, "rank": 2, "decoded_token": "b"},
    }
    upstream.script = [end("é", logprobs=[json.dumps([position])])]
    answer = client.chat.completions.create(model="chat", messages=HI, logprobs=True, top_logprobs=2)
    assert answer.choices[0].logprobs is not None
    (token,) = answer.choices[0].logprobs.content or []
    assert (token.token, token.logprob, token.bytes) == ("é", -2.0, [195, 169])
    assert [(each.token, each.logprob) for each in token.top_logprobs] == [("a", -0.1), ("b", -9999.0)]
    assert upstream.sampling()["logprobs"] == 2
    assert upstream.asked[-1]["return_logprobs"] is True


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "\n", "seed": 3, "top_k": 4, "min_p": 0.5}, {"stop": "\n", "seed": 3, "top_k": 4, "min_p": 0.5}),
        ({"logit_bias": {"5": 1000, "6": -1000, "7": 1}}, {"logit_bias": {"5": 100.0, "6": -100.0, "7": 1.0}}),
        ({"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": None}, "strict": True}}},
            {"structured_outputs": {"json": {"const": None}}},
        ),
        ({"structured_outputs": {"regex": "a+"}}, {"structured_outputs": {"regex": "a+"}}),
        ({"user": "x", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "temperature": None}, {}),
    ],
)  # fmt: skip
def test_sampling_parameters_are_those_of_the_pipeline(
    url: str, upstream: ScriptedUpstream, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    answer = httpx.post(f"{url}/chat/completions", json={"model": "chat", "messages": HI, **asked})
    assert answer.status_code == 200, answer.text
    assert upstream.sampling() == {"n": 1, **sent}


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        ({"max_token": 5}, "max_token", "did you mean `max_tokens`?"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "differs"),
        ({"temperature": "hot"}, "temperature", "must be a number"),
        ({"temperature": 3}, "temperature", "at most 2"),
        ({"n": 17}, "n", "at most 16"),
        ({"store": True}, "store", "Nothing is stored"),
        ({"functions": []}, "functions", "use `tools`"),
        ({"top_logprobs": 2}, "top_logprobs", "requires `logprobs: true`"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "is required"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs", "exactly one"),
        ({"tool_choice": "required"}, "tool_choice", "requires `tools`"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type", "must be `function`"),
        ({"messages": []}, "messages", "must not be empty"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "must be one of"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "must be a string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            "must be `text`",
        ),
        ({"stream_options": {"include_usages": True}}, "stream_options.include_usages", "did you mean"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_callers_field(
    url: str, upstream: ScriptedUpstream, asked: dict[str, Any], param: str, said: str
) -> None:
    answer = httpx.post(f"{url}/chat/completions", json={"model": "chat", "messages": HI, **asked})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (
        400,
        "invalid_request_error",
        "invalid_argument",
    )
    assert error["param"] == param
    assert said in error["message"]
    assert upstream.asked == []


@pytest.mark.parametrize(
    ("error", "status", "param", "asked"),
    [
        (("invalid_argument", "sampling_parameters.max_tokens", "too many"), 400, "max_tokens", {"max_tokens": 5}),
        (("invalid_argument", "sampling_parameters.max_tokens", "too many"), 400, "max_completion_tokens", {"max_completion_tokens": 5}),
        (("invalid_argument", "return_logprobs", "rules"), 400, "logprobs", {"logprobs": True}),
        (("invalid_argument", "messages[0].content", "long"), 400, "messages[0].content", {}),
        (("invalid_argument", "chat_options.tools", "no parser"), 400, "tools", {}),
        (("invalid_argument", "sampling_parameters.structured_outputs", "x"), 400, "response_format", {"response_format": {"type": "json_object"}}),
        (("queue_full", "", "full"), 429, None, {}),
        (("unavailable", "", "later"), 503, None, {}),
        (("engine_failure", "", "died"), 500, None, {}),
        (("guardrail_failure", "", "failed"), 500, None, {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_pipeline_has_its_status_and_the_callers_field(
    url: str,
    upstream: ScriptedUpstream,
    error: Any,
    status: int,
    param: str | None,
    asked: dict[str, Any],
    stream: bool,
) -> None:
    upstream.script = [errors.RequestError(*error)]
    answer = httpx.post(
        f"{url}/chat/completions", json={"model": "chat", "messages": HI, "stream": stream, **asked}
    )
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["code"] == error[0]
    assert ("retry-after" in answer.headers) == (error[0] in ("queue_full", "unavailable"))


def test_the_clients_exceptions_are_those_of_openai(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=HI)
    assert missing.value.code == "model_not_found"
    upstream.script = [errors.RequestError("queue_full", "", "full")]
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="chat", messages=HI)


@pytest.mark.parametrize(("reason", "status"), [("timeout", 504), ("cancelled", 503)])
def test_an_answer_that_was_cut_off_is_an_error(
    url: str, upstream: ScriptedUpstream, reason: str, status: int
) -> None:
    upstream.script = [piece("Hel"), end("", reason=reason)]
    answer = httpx.post(f"{url}/chat/completions", json={"model": "chat", "messages": HI})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == reason


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_blocked_is_an_error_that_names_message_and_rule(
    url: str, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = [end("", reason="content_filter", guardrail=[BLOCKED | WHERE], num_output_tokens=[0])]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "The sec"}, {"type": "text", "text": "ret"}]},
        {"role": "user", "content": "Please"},
    ]
    answer = httpx.post(
        f"{url}/chat/completions", json={"model": "chat", "messages": messages, "stream": stream}
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (
        "content_filter",
        "invalid_request_error",
        "messages[1].content",
    )
    assert "`secrets`" in error["message"]
    filtered = error["innererror"]["content_filter_result"]["custom_blocklists"]
    assert filtered == {"filtered": True, "details": [{"id": "secrets", "filtered": True}]}
    assert answer.json()["guardrails"] == [BLOCKED]
    assert answer.headers["x-guardrail-policy"] == "policy-hash"


def test_an_endpoint_can_answer_a_blocked_prompt_with_a_refusal(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = [end("", reason="content_filter", guardrail=[BLOCKED], num_output_tokens=[0])]
    upstream.refusal = "Message"
    answer = client.chat.completions.create(model="chat", messages=HI)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("", "content_filter")
    assert "blocked" in (choice.message.refusal or "")
    assert (answer.model_extra or {})["guardrails"] == [BLOCKED]

    chunks = list(client.chat.completions.create(model="chat", messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks) == choice.message.refusal
    assert chunks[-1].choices[0].finish_reason == "content_filter"


def test_an_answer_that_is_blocked_ends_with_its_safe_prefix(
    client: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    blocked = BLOCKED | {"direction": "output"}
    upstream.script = [piece("It is "), end("", reason="content_filter", guardrail=[blocked])]
    answer = client.chat.completions.create(model="chat", messages=HI)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (
        "It is ",
        "content_filter",
    )
    assert answer.choices[0].message.refusal is None
    assert (answer.model_extra or {})["guardrails"] == [blocked]
