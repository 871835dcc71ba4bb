"""Answers of tool-calling and reasoning models through vLLM's parsers, cut wherever an engine can cut them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import chat_tokenizers
from tritonllm import errors, versions
from tritonllm.runtime import vllm_chat

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    # vLLM and torch warn of themselves when they are imported.
    pytest.mark.filterwarnings("ignore"),
]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
ROME = {"city": 'Rom"e é 🙂', "days": 3}


def hermes(name: str, arguments: dict[str, Any]) -> str:
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def llama(name: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return chat_tokenizers.make(tmp_path_factory.mktemp("tokenizer"))


class Answer:
    """One choice, put together as a client does."""

    def __init__(self) -> None:
        self.text = self.reasoning = ""
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish_reason = ""

    def add(self, delta: vllm_chat.Delta) -> None:
        self.text += delta.text
        self.reasoning += delta.reasoning
        for call in delta.tool_calls:
            assert call.keys() <= {"index", "id", "type", "function"}
            known = self.calls.get(call["index"])
            if known is None:
                assert call["type"] == "function"
                assert call["id"]
                assert call["function"]["name"]
                known = self.calls[call["index"]] = {"id": call["id"], "name": "", "arguments": ""}
            known["name"] += call["function"].get("name", "")
            known["arguments"] += call["function"].get("arguments", "")

    @property
    def called(self) -> list[tuple[str, Any]]:
        assert list(self.calls) == list(range(len(self.calls)))
        assert len({call["id"] for call in self.calls.values()}) == len(self.calls)
        return [(call["name"], json.loads(call["arguments"])) for call in self.calls.values()]


def answer(
    tokenizer: Any,
    text: str,
    *,
    tool_parser: str | None = None,
    reasoning_parser: str | None = None,
    chat: dict[str, Any] | None = None,
    at_once: int = 1,
    tokens: int | None = None,
) -> Answer:
    """Parses an answer, some tokens at once; with `tokens`, only as many, as if `max_tokens` ended it."""
    parsers = vllm_chat.Parsers(tool_parser, reasoning_parser, tokenizer, None)
    options = {"tools": [WEATHER, TIME]} if tool_parser else {}
    talk = parsers.conversation(options | (chat or {}), {}, 1)
    prompt = tokenizer.encode("hi<|im_end|>")
    skip = talk.sampling.get("skip_special_tokens", True)
    every = list(chat_tokenizers.deltas(tokenizer, text, skip_special_tokens=skip))
    steps = every[:tokens]
    reason = "stop" if len(steps) == len(every) else "length"
    result = Answer()
    for start in range(0, len(steps), at_once):
        group = steps[start : start + at_once]
        last = start + at_once >= len(steps)
        ids = [token for _, part in group for token in part]
        result.add(talk.feed(0, "".join(part for part, _ in group), ids, prompt, reason if last else None))
    result.finish_reason = talk.finish_reason(0, reason)
    return result


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(("parser", "form"), [("hermes", hermes), ("llama3_json", llama)])
def test_a_call_is_the_same_however_many_tokens_arrive_at_once(
    tokenizer: Any, parser: str, form: Any, at_once: int
) -> None:
    found = answer(tokenizer, form("get_weather", ROME), tool_parser=parser, at_once=at_once)
    assert found.called == [("get_weather", ROME)]
    assert (found.text.strip(), found.reasoning, found.finish_reason) == ("", "", "tool_calls")


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
def test_text_before_a_call_is_text_and_several_calls_are_several(tokenizer: Any, at_once: int) -> None:
    text = "Let me see. " + hermes("get_weather", ROME) + "\n" + hermes("get_time", {})
    found = answer(tokenizer, text, tool_parser="hermes", at_once=at_once)
    assert found.called == [("get_weather", ROME), ("get_time", {})]
    assert found.text.strip() == "Let me see."


@pytest.mark.parametrize(("parser", "form"), [("hermes", hermes), ("llama3_json", llama)])
def test_a_call_cut_at_any_token_ends_with_length_and_shows_only_what_was_said(
    tokenizer: Any, parser: str, form: Any
) -> None:
    text = form("get_weather", {"city": "Rome", "days": 3})
    whole = answer(tokenizer, text, tool_parser=parser).calls[0]["arguments"]
    lengths = set()
    for tokens in range(1, len(tokenizer.encode(text, add_special_tokens=False))):
        found = answer(tokenizer, text, tool_parser=parser, tokens=tokens)
        assert found.finish_reason == "length"
        arguments = found.calls[0]["arguments"] if found.calls else ""
        assert whole.startswith(arguments)
        lengths.add(len(arguments))
    assert len(lengths) > 5, "arguments are streamed"


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
@pytest.mark.parametrize("text", ["Let me see <tool", "Rain, 1 <", "<h1>", "No call, but a very long answer"])
def test_text_that_only_looks_like_a_call_is_not_lost(tokenizer: Any, text: str, at_once: int) -> None:
    found = answer(tokenizer, text, tool_parser="hermes", at_once=at_once)
    assert (found.text, found.calls, found.finish_reason) == (text, {}, "stop")


@pytest.mark.parametrize("at_once", [1, 2, 5, 10_000])
@pytest.mark.parametrize("parser", ["deepseek_r1", "qwen3"])
def test_reasoning_is_apart_from_text_and_calls(tokenizer: Any, parser: str, at_once: int) -> None:
    # The template of DeepSeek's model has opened the reasoning already.
    start = "" if parser == "deepseek_r1" else "<think>"
    text = f"{start}Which city? Rome.</think>" + hermes("get_weather", ROME)
    found = answer(tokenizer, text, tool_parser="hermes", reasoning_parser=parser, at_once=at_once)
    assert found.reasoning == "Which city? Rome."
    assert found.called == [("get_weather", ROME)]
    found = answer(tokenizer, f"{start}Hm.</think>It rains.", reasoning_parser=parser, at_once=at_once)
    assert (found.reasoning, found.text, found.finish_reason) == ("Hm.", "It rains.", "stop")


def test_reasoning_that_is_not_wanted_is_dropped(tokenizer: Any) -> None:
    chat = {"include_reasoning": False}
    found = answer(tokenizer, "Hm.</think>It rains.", reasoning_parser="deepseek_r1", chat=chat)
    assert (found.reasoning, found.text) == ("", "It rains.")


def test_without_a_reason_to_parse_an_answer_is_text(tokenizer: Any) -> None:
    parsers = vllm_chat.Parsers("hermes", None, tokenizer, None)
    assert parsers.conversation({}, {}, 2).parsers == []


def test_with_tool_choice_none_the_model_sees_the_tools_and_its_answer_is_text(tokenizer: Any) -> None:
    text = hermes("get_time", {})
    found = answer(tokenizer, text, tool_parser="hermes", chat={"tool_choice": "none"})
    assert (found.text, found.calls, found.finish_reason) == (text, {}, "stop")
    talk = vllm_chat.Parsers(None, None, tokenizer, None).conversation(
        {"tools": [TIME], "tool_choice": "none"}, {}, 1
    )
    assert talk.tools
    assert talk.tools[0]["function"]["name"] == "get_time"


@pytest.mark.parametrize("parser", ["hermes", "llama3_json"])
@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "get_weather"}}],
    ids=["required", "named"],
)
def test_a_call_that_has_to_come_is_forced_by_structured_outputs(
    tokenizer: Any, parser: str, choice: Any
) -> None:
    chat = {"tools": [WEATHER, TIME], "tool_choice": choice}
    talk = vllm_chat.Parsers(parser, None, tokenizer, None).conversation(chat, {"temperature": 0.0}, 1)
    assert talk.sampling["temperature"] == 0.0
    forced = talk.sampling["structured_outputs"]
    assert "get_weather" in str(forced) or "city" in str(forced)
    assert ("get_time" in str(forced)) is (choice == "required")


def test_a_named_call_ends_with_stop_as_in_openais_api(tokenizer: Any) -> None:
    chat = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
    found = answer(tokenizer, hermes("get_weather", ROME), tool_parser="hermes", chat=chat)
    assert found.called == [("get_weather", ROME)]
    assert found.finish_reason == "stop"


def test_choices_are_parsed_independently(tokenizer: Any) -> None:
    talk = vllm_chat.Parsers("hermes", None, tokenizer, None).conversation({"tools": [TIME]}, {}, 2)
    steps = [
        list(chat_tokenizers.deltas(tokenizer, text, skip_special_tokens=False))
        for text in (hermes("get_time", {}), "No call is needed here, none at all")
    ]
    found = [Answer(), Answer()]
    for position in range(max(map(len, steps))):
        for choice, tokens in enumerate(steps):
            if position < len(tokens):
                last = position == len(tokens) - 1
                found[choice].add(talk.feed(choice, *tokens[position], [1], "stop" if last else None))
    assert found[0].called == [("get_time", {})]
    assert (found[1].text, found[1].calls) == ("No call is needed here, none at all", {})
    assert [talk.finish_reason(choice, "stop") for choice in (0, 1)] == ["tool_calls", "stop"]


def test_tools_without_a_parser_are_refused_with_what_to_set(tokenizer: Any) -> None:
    with pytest.raises(errors.RequestError) as caught:
        vllm_chat.Parsers(None, "deepseek_r1", tokenizer, None).conversation({"tools": [TIME]}, {}, 1)
    assert caught.value.code == "invalid_argument"
    assert caught.value.field == "chat_options.tools"
    assert "engine.args.tool_call_parser" in caught.value.message


@pytest.mark.parametrize("argument", ["tool_call_parser", "reasoning_parser"])
def test_an_unknown_parser_is_refused_with_the_known_ones(argument: str) -> None:
    names = {"tool_call_parser": None, "reasoning_parser": None} | {argument: "nonsense"}
    with pytest.raises(
        ValueError, match=f"engine.args.{argument}: this vLLM has no parser `nonsense`"
    ) as caught:
        vllm_chat.check_names(**names)
    assert ("hermes" if argument == "tool_call_parser" else "deepseek_r1") in str(caught.value)
    vllm_chat.check_names("hermes", "deepseek_r1")


def test_a_parser_that_needs_tokens_the_model_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_tokenizers, "TAGS", ())
    tokenizer = chat_tokenizers.make(tmp_path / "bare")
    with pytest.raises(
        ValueError, match=r"engine.args.reasoning_parser: deepseek_r1: does not work with this"
    ):
        vllm_chat.Parsers(None, "deepseek_r1", tokenizer, None)


def test_the_installed_vllm_has_every_name() -> None:
    assert vllm_chat.missing() == []


def test_a_vllm_that_lacks_a_name_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        vllm_chat,
        "CONTRACT",
        {
            ("vllm.parser", "ParserManager.gone"): (),
            ("vllm.gone", "Parser"): (),
            ("vllm.parser", "Parser.parse_delta"): ("gone",),
        },
    )
    assert vllm_chat.missing() == [
        "vllm.parser.ParserManager.gone is missing",
        "vllm.gone.Parser is missing",
        "vllm.parser.Parser.parse_delta has no parameter gone",
    ]
    with pytest.raises(ValueError, match="no usable parsers"):
        vllm_chat.check_names("hermes", None)
