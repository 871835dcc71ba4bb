"""Reasoning and tool calls obey the output rules like the text, each on its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonllm.runtime import answer, backend, requests
from unit.runtime.test_answer import policy

STREAM = requests.parse({"text_input": "Hi", "stream": True}, {})


def update(
    text: str = "", *, reasoning: str = "", calls: Any = None, ends: str | None = None
) -> backend.Update:
    return backend.Update(
        [text],
        [ends],
        3,
        [1],
        reasoning=[reasoning] if reasoning else None,
        tool_calls=[calls] if calls else None,
    )


def start(index: int = 0, name: str = "look_up") -> dict[str, Any]:
    return {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }


def more(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments}}


def calls(outputs: dict[str, list[Any]]) -> list[Any]:
    return json.loads(outputs.get("tool_calls", ["[]"])[0])


def test_without_rules_reasoning_and_calls_are_streamed_as_they_come() -> None:
    growing = answer.Answer(1)
    growing.update(update(reasoning="hm"))
    assert growing.outputs(STREAM, last=False) == {"text_output": [""], "reasoning_output": ["hm"]}
    growing.update(update(calls=[start()]))
    assert calls(growing.outputs(STREAM, last=False)) == [start()]
    growing.update(update(calls=[more('{"q"'), more(": 1}")], ends="tool_calls"))
    outputs = growing.outputs(STREAM, last=True)
    assert calls(outputs) == [more('{"q"'), more(": 1}")]
    assert outputs["finish_reason"] == ["tool_calls"]


def test_with_rules_a_call_leaves_when_it_is_complete_and_its_arguments_stay_json() -> None:
    growing = answer.Answer(1, policy("Mask"))
    growing.update(update(calls=[start(), more('{"q": "the f\\u0061l')]))
    assert "tool_calls" not in growing.outputs(STREAM, last=False)
    growing.update(update(calls=[more('con"}'), start(1)]))
    [call] = calls(growing.outputs(STREAM, last=False))
    assert call["id"] == "call_0"
    assert json.loads(call["function"]["arguments"]) == {"q": "the [REDACTED]"}
    growing.update(update(calls=[more("{}", 1)], ends="tool_calls"))
    [call] = calls(growing.outputs(STREAM, last=True))
    assert call["function"] == {"name": "look_up", "arguments": "{}"}
    assert growing.verdicts()[0]["count"] == 1


def test_what_is_undecided_in_the_text_does_not_hold_back_the_reasoning() -> None:
    growing = answer.Answer(1, policy("Mask"))
    growing.update(update(reasoning="a sparrow ", text="a fal"))
    outputs = growing.outputs(STREAM, last=False)
    assert outputs == {"text_output": ["a "], "reasoning_output": ["a sparrow "]}


@pytest.mark.parametrize(
    "blocked",
    [
        [update(reasoning="a falcon "), update("text"), update(calls=[start()])],
        [update("a fal"), update("con "), update(reasoning="more"), update(calls=[start()])],
        [
            update("a "),
            update(calls=[start(), more('{"q": "falcon"}')]),
            update(calls=[start(1)], ends="tool_calls"),
        ],
        [update("a "), update(calls=[start(0, "falcon")]), update(calls=[start(1)], ends="tool_calls")],
    ],
    ids=["reasoning", "text", "arguments", "name"],
)
def test_a_block_in_one_of_them_ends_all(blocked: list[backend.Update]) -> None:
    growing = answer.Answer(1, policy("Block"))
    sent: list[dict[str, list[Any]]] = []
    for each in blocked:
        growing.update(each)
        sent.append(growing.outputs(STREAM, last=growing.finished))
    assert growing.finished
    assert growing.choices[0].finish_reason == "content_filter"
    said = json.dumps(sent)
    assert "falcon" not in said
    assert "more" not in said
    assert "call_1" not in said


def test_merged_updates_keep_reasoning_and_calls_in_order() -> None:
    first = update("a", reasoning="b", calls=[start()])
    first.merge(update("c", reasoning="d", calls=[more("{}")]))
    assert (first.texts, first.reasoning, first.tool_calls) == (["ac"], ["bd"], [[start(), more("{}")]])
    plain = update("a")
    plain.merge(update("b", reasoning="c"))
    assert (plain.texts, plain.reasoning, plain.tool_calls) == (["ab"], ["c"], None)
