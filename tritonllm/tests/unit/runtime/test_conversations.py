"""Conversations in OpenAI's format: what is accepted, and that rules reach every text of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonllm import errors
from tritonllm.render import canonical
from tritonllm.runtime import conversations, requests, screening

CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks up a word.",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}
USER = {"role": "user", "content": "Hi"}


def parse(*turns: Any) -> list[conversations.Message]:
    return conversations.parse_messages(json.dumps(turns))


def test_what_the_api_knows_of_each_role_is_read() -> None:
    turns = [
        {"role": "system", "content": "Be brief.", "name": "boss"},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "a word"}]},
    ]
    system, _, assistant, tool = parse(*turns)
    assert system == {"role": "system", "content": "Be brief.", "name": "boss"}
    assert assistant == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert tool == {"role": "tool", "content": "a word", "tool_call_id": "call_1"}


def test_a_refusal_of_an_earlier_turn_is_what_the_assistant_said() -> None:
    [turn] = parse({"role": "assistant", "refusal": "No."})
    assert turn == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("Hi", "messages[0]: must be an object"),
        ({"role": "robot", "content": ""}, "messages[0].role: must be one of"),
        ({"role": "user"}, "messages[0].content: must be a string"),
        ({"role": "user", "content": 5}, "messages[0].content: must be a string"),
        ({"role": "user", "content": "", "tool_calls": [CALL]}, "messages[0].tool_calls: is not supported"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0]: only text parts"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls[0]: must be like"),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls: must be a list"),
        ({"role": "user", "content": "\ud800"}, "messages[0].content: has a lone surrogate"),
    ],
)
def test_a_mistake_is_refused_with_its_field(turn: Any, message: str) -> None:
    with pytest.raises(errors.RequestError) as caught:
        parse(turn)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": [{"type": "function"}]}, "chat_options.tools[0].function"),
        ({"tool": []}, "chat_options.tool: unknown field `tool`; did you mean `tools`?"),
        ({"tool_choice": "required"}, "is `required`, but there are no `tools`"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "names a function that is not in `tools`",
        ),
        (
            {
                "chat_template_kwargs": {
                    "a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
                }
            },
            "is nested more than 32 levels deep",
        ),
    ],
)
def test_options_are_checked(options: Any, message: str) -> None:
    with pytest.raises(errors.RequestError) as caught:
        conversations.parse_options(json.dumps(options))
    assert message in str(caught.value)


def test_options_are_for_conversations_only() -> None:
    with pytest.raises(errors.RequestError, match="chat_options: is for `messages`"):
        requests.parse({"text_input": "Hi", "chat_options": "{}"}, {})


def screened(messages: list[Any], options: dict[str, Any] | None = None) -> screening.Screened:
    rule = {"name": "secrets", "banned": {"phrases": ["falcon"]}, "action": "Mask"}
    policy = screening.EndpointPolicy.load(canonical.pack({"input": [rule]}))
    values: dict[str, str | bool] = {"messages": json.dumps(messages)}
    if options is not None:
        values["chat_options"] = json.dumps(options)
    return screening.screen(requests.parse(values, {}), policy)


@pytest.mark.parametrize(
    ("field", "messages", "options"),
    [
        ("messages[0].content", [{"role": "user", "content": "a falcon"}], None),
        ("messages[0].name", [{"role": "user", "content": "Hi", "name": "falcon"}], None),
        ("messages[1].content", [USER, {"role": "tool", "content": "falcon", "tool_call_id": "1"}], None),
        ("messages[0].reasoning", [{"role": "assistant", "content": "", "reasoning": "falcon"}], None),
        (
            "messages[0].tool_calls[0].function.arguments",
            [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "1", "function": {"name": "f", "arguments": '{"q": "the f\\u0061lcon"}'}}
                    ],
                }
            ],
            None,
        ),
        (
            "messages[0].tool_calls[0].function.name",
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "falcon", "arguments": ""}}],
                }
            ],
            None,
        ),
        (
            "chat_options.tools[0].function.description",
            [USER],
            {"tools": [{"type": "function", "function": {"name": "f", "description": "the falcon"}}]},
        ),
        (
            "chat_options.tools[0].function.parameters.properties",
            [USER],
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"properties": {"falcon": {}}}},
                    }
                ]
            },
        ),
        (
            "chat_options.chat_template_kwargs.hint[1]",
            [USER],
            {"chat_template_kwargs": {"hint": [1, "falcon"]}},
        ),
    ],
)
def test_rules_reach_every_text_that_a_model_would_read(
    field: str, messages: list[Any], options: dict[str, Any] | None
) -> None:
    result = screened(messages, options)
    assert result.verdicts == [
        {"rule": "secrets", "action": "Mask", "direction": "input", "count": 1, "field": field}
    ]
    read = json.dumps([result.request.messages, result.request.chat])
    assert "falcon" not in read
    assert "[REDACTED]" in read


def test_masked_arguments_are_still_json_and_others_stay_as_they_are() -> None:
    assert conversations.map_arguments('{"a" : [1, "x"]}', lambda text: text) == '{"a" : [1, "x"]}'
    assert json.loads(conversations.map_arguments('{"a": "b"}', lambda text: '"' + text)) == {'"a': '"b'}
    assert conversations.map_arguments('{"a": "b', str.upper) == '{"A": "B'
