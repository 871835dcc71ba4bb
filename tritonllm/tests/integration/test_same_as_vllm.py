"""The gateway against vLLM's own OpenAI server: the same model, requests and seeds have the same answers, chunk by chunk.

An endpoint in front of vLLM's server passes on what that one answers.

What differs on purpose is removed here before the comparison, and listed in docs/gateway.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import models
import servers
from integration import server
from tritonllm import versions
from weather_tool import SCHEMA, TOOL

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(400),
]

# The deepseek_v3 parser takes text for reasoning if the variable `thinking` of the template is set, and not otherwise.
ARGS = {
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 8,
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    "tool_call_parser": "hermes",
    "reasoning_parser": "deepseek_v3",
}
ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: tiny}}
spec:
  pool: test
  model: {{path: {weights}}}
  engine: {{type: vllm, args: {args}}}
  guardrails: {{}}
"""
IN_FRONT = "in-front"
UPSTREAM = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  engine: {{type: openai, args: {{url: {url}, model: tiny, api: vllm, max_model_len: 512}}}}
  guardrails: {{}}
"""
NAMED = {"type": "function", "function": {"name": "get_weather"}}
USAGE = {"stream_options": {"include_usage": True}}
RUNNING_USAGE = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
HELLO = {"role": "user", "content": "Hello"}
LONG = {"role": "user", "content": "the cat and the sea " * 200}

CHAT: dict[str, dict[str, Any]] = {
    "plain": {},
    "greedy": {"temperature": 0},
    "two-choices": {"n": 2, **USAGE},
    "stop": {"max_tokens": 60, "stop": ["e", "a"]},
    "stop-included": {"max_tokens": 60, "stop": ["e", "a"], "include_stop_str_in_output": True},
    "usage": USAGE,
    "running-usage": RUNNING_USAGE,
    "logprobs": {"logprobs": True},
    "top-logprobs": {"logprobs": True, "top_logprobs": 3, "n": 2},
    "logit-bias": {"logit_bias": {"100": 500}},
    "tools-offered": {"tools": [TOOL]},
    "tools-none": {"tools": [TOOL], "tool_choice": "none"},
    "tools-required": {
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 400,
    },
    "tools-named": {"tools": [TOOL], "tool_choice": NAMED, "max_tokens": 400},
    "tools-cut": {"tools": [TOOL], "tool_choice": "required", "max_tokens": 20},
    "json-schema": {"response_format": FORMAT, "max_tokens": 200},
    "json-object": {"response_format": {"type": "json_object"}, "max_tokens": 20},
    "reasoning": {"chat_template_kwargs": {"thinking": True}, "max_tokens": 40},
    "reasoning-hidden": {
        "chat_template_kwargs": {"thinking": True},
        "max_tokens": 40,
        "include_reasoning": False,
    },
    "reasoning-cut": {"chat_template_kwargs": {"thinking": True}},
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two-prompts": {"prompt": ["The engine", "A client asks"], "n": 2, **USAGE},
    "stop": {"max_tokens": 60, "stop": "e"},
    "usage": USAGE,
    "running-usage": RUNNING_USAGE,
    "logprobs": {"logprobs": 2},
    "chosen-logprobs": {"logprobs": 0},
    "choice": {"structured_outputs": {"choice": ["yes", "no"]}},
}
# Request, status, and our `param`.
ERRORS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no-messages": ("chat/completions", {"messages": []}, 400, "messages"),
    "too-long": ("chat/completions", {"messages": [LONG]}, 400, "messages"),
    "template": ("chat/completions", {"messages": [HELLO, HELLO]}, 400, "messages"),
    "model": ("chat/completions", {"model": "other"}, 404, "model"),
    "max-tokens": ("chat/completions", {"max_tokens": 0}, 400, "max_tokens"),
    "temperature": ("chat/completions", {"temperature": -1}, 400, "temperature"),
    "n": ("chat/completions", {"n": 0}, 400, "n"),
    "type": ("chat/completions", {"messages": "Hello"}, 400, "messages"),
    "top-logprobs": ("chat/completions", {"top_logprobs": 2}, 400, "top_logprobs"),
    "no-tools": ("chat/completions", {"tool_choice": "required"}, 400, "tool_choice"),
    "schema": (
        "chat/completions",
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "none"}},
            }
        },
        400,
        "response_format",
    ),
    "strict-tool": (
        "chat/completions",
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"type": "none"}, "strict": True},
                }
            ],
            "tool_choice": "required",
        },
        400,
        "tools",
    ),
    "no-prompt": ("completions", {"prompt": ""}, 400, "prompt"),
    "logprobs": ("completions", {"logprobs": 21}, 400, "logprobs"),
    "logit-bias": ("completions", {"logit_bias": {"99999": 1}}, 400, "logit_bias"),
    "regex": ("completions", {"structured_outputs": {"regex": "("}}, 400, "structured_outputs"),
}

OURS = {"guardrails", "refusal", "annotations"}
VLLMS = {"stop_reason", "system_fingerprint", "completion_tokens_details"}
CASES = [
    *(pytest.param("chat/completions", asked, id=f"chat-{name}") for name, asked in CHAT.items()),
    *(pytest.param("completions", asked, id=f"completions-{name}") for name, asked in COMPLETIONS.items()),
]


class Servers:
    """Both, and the tokens around reasoning."""

    def __init__(self, theirs: str, ours: str, thoughts: list[int]) -> None:
        self.urls = {"vllm": theirs, "tritonllm": ours}
        self._start, self._end = thoughts

    def ask(self, who: str, route: str, asked: dict[str, Any], *, stream: bool) -> httpx.Response:
        model = IN_FRONT if who == IN_FRONT else "tiny"
        body: dict[str, Any] = {"model": model, "max_tokens": 8, "seed": 1, "temperature": 1}
        body |= {"messages": [HELLO]} if route.startswith("chat") else {"prompt": "The engine reads"}
        body |= asked
        if body.get("chat_template_kwargs") and body["max_tokens"] > 8:
            # A model that begins to reason once more is read in two ways by vLLM, streamed and not.
            body["logit_bias"] = {str(self._start): -100, str(self._end): 3}
        if stream:
            body["stream"] = True
        else:
            body.pop("stream_options", None)
        url = self.urls.get(who, self.urls["tritonllm"])
        return httpx.post(f"{url}/v1/{route}", json=body, timeout=120)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("same")
    weights = models.tiny_llama(directory / "model", thoughts=True)
    endpoint = ENDPOINT.format(weights=weights, args=json.dumps(ARGS))
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (
        servers.vllm(
            weights, ARGS | {"enable_auto_tool_choice": True}, environment, directory / "log"
        ) as theirs,
        server.running(
            [endpoint, UPSTREAM.format(name=IN_FRONT, url=theirs.url.removesuffix("/completions"))],
            seconds=240,
            gateway={},
        ) as ours,
    ):
        yield Servers(theirs.url.removesuffix("/v1/completions"), ours.gateway, thoughts(weights))


def thoughts(weights: Path) -> list[int]:
    added = json.loads((weights / "tokenizer.json").read_text())["added_tokens"]
    found = {each["content"]: each["id"] for each in added}
    return [found[mark] for mark in models.THOUGHTS]


@pytest.mark.parametrize(("route", "asked"), CASES)
def test_whole_answers_are_the_same(both: Servers, route: str, asked: dict[str, Any]) -> None:
    theirs, ours = (both.ask(who, route, asked, stream=False).json() for who in ("vllm", "tritonllm"))
    for choice in theirs["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            # vLLM writes complete arguments anew, unless they are streamed.
            [same] = [each for each in ours["choices"] if each["index"] == choice["index"]]
            [called] = same["message"]["tool_calls"]
            arguments = called["function"]["arguments"]
            assert json.loads(arguments) == json.loads(call["function"]["arguments"])
            call["function"]["arguments"] = arguments
        if choice["finish_reason"] == "length" and asked.get("tool_choice") == "required":
            # vLLM shows the beginning of a call as text, unless it is streamed.
            assert choice["message"].pop("content").startswith("<tool_call>")
    assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize(("route", "asked"), CASES)
def test_streams_are_the_same(both: Servers, route: str, asked: dict[str, Any]) -> None:
    def folded_streams() -> list[Any]:
        return [folded(events(both.ask(who, route, asked, stream=True).text)) for who in both.urls]

    theirs, ours = folded_streams()
    # Which choices share a step is up to the scheduler, and the last digit of a logit depends on it: of a model with
    # random weights, that is sometimes another token. On a busy machine several tokens share an update, and vLLM's
    # server then sorts what lies around `</think>` in another way.
    for _ in range(2):
        if ours != theirs:
            theirs, ours = folded_streams()
    assert ours == theirs


@pytest.mark.parametrize(("route", "asked"), CASES)
def test_an_endpoint_in_front_of_vllms_server_answers_as_that_one(
    both: Servers, route: str, asked: dict[str, Any]
) -> None:
    def folded_streams() -> list[Any]:
        streams = (events(both.ask(who, route, asked, stream=True).text) for who in ("vllm", IN_FRONT))
        return [without_chunks(folded(stream)) for stream in streams]

    theirs, ours = folded_streams()
    # See above.
    for _ in range(2):
        if ours != theirs:
            theirs, ours = folded_streams()
    assert ours == theirs


def test_reasoning_comes_before_the_answer(both: Servers) -> None:
    asked = CHAT["reasoning"]
    message = both.ask("tritonllm", "chat/completions", asked, stream=False).json()["choices"][0]["message"]
    assert message["reasoning"]
    assert message["content"]
    assert not any(mark in message["reasoning"] for mark in models.THOUGHTS)


@pytest.mark.parametrize(("route", "asked", "status", "param"), ERRORS.values(), ids=ERRORS)
def test_errors_have_the_same_status(
    both: Servers, route: str, asked: dict[str, Any], status: int, param: str
) -> None:
    theirs, ours = (both.ask(who, route, asked, stream=False) for who in ("vllm", "tritonllm"))
    assert (ours.status_code, theirs.status_code) == (status, status)
    error = ours.json()["error"]
    assert error["param"] == param
    assert ".cc:" not in error["message"]
    # vLLM's server reports some of them as an event of a stream with status 200.
    assert both.ask("tritonllm", route, asked, stream=True).status_code == status


def test_models_are_described_alike(both: Servers) -> None:
    theirs, ours = (httpx.get(f"{url}/v1/models").json() for url in both.urls.values())
    assert ours["data"][0]["max_model_len"] == theirs["data"][0]["max_model_len"] == ARGS["max_model_len"]


def events(text: str) -> list[Any]:
    *chunks, done = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def comparable(value: Any, name: str = "") -> Any:
    """Without what differs on purpose, and without null and empty fields, of which vLLM's server has more."""
    if isinstance(value, dict):
        fields = {key: comparable(item, key) for key, item in value.items() if key not in OURS | VLLMS}
        identifiers = {"id": str, "created": int}
        for key in identifiers.keys() & fields.keys():
            assert isinstance(fields[key], identifiers[key])
            fields[key] = fields[key] if fields[key] in ("", 0) else "…"
        return {key: item for key, item in fields.items() if item not in (None, [], "")}
    if isinstance(value, list):
        if name == "top_logprobs" and value and "bytes" in (value[0] or {}):
            # Those of a chat: vLLM has the generated token in place of one of the most likely.
            return None
        return [comparable(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def folded(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream as what is in it, in order, for each choice: how much of it is in a chunk depends on timing."""
    frames: dict[str, Any] = {"fields": [], "usage": [], "choices": {}}
    for chunk in chunks:
        usage = chunk.pop("usage", None)
        for choice in chunk.pop("choices"):
            _add(frames["choices"].setdefault(choice["index"], []), choice)
        fields = comparable(chunk)
        if fields not in frames["fields"]:
            frames["fields"].append(fields)
        if usage:
            frames["usage"] = [usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]]
    return frames


def without_chunks(stream: dict[str, Any]) -> dict[str, Any]:
    """A folded stream without what depends on its chunks, and without what an endpoint in front can't pass on."""
    for index, parts in stream["choices"].items():
        texts: list[list[Any]] = []
        for key, value, *more in [part for part in parts if not part[0].startswith("logprobs.")]:
            if more:
                texts.append([key, value, *more])
            else:
                _join(texts, key, value)
        # Of completions, vLLM's server lists them by their text, which several tokens can have.
        logprobs = [part for part in parts if part[0] in ("logprobs.content", "logprobs.token_logprobs")]
        stream["choices"][index] = [*texts, *logprobs]
    stream["fields"] = [{**each, "model": ""} for each in stream["fields"]]
    return stream


def _add(found: list[list[Any]], choice: dict[str, Any]) -> None:
    delta = choice.get("delta", {"text": choice.get("text")})
    for key, value in delta.items():
        if key == "role":
            found.append([key, value, delta["content"]])
        elif key == "tool_calls":
            for call in value:
                _add_call(found, call)
        elif value:
            _join(found, key, value)
    for key, values in sorted((choice["logprobs"] or {}).items()):
        for value in comparable(values or []):
            place = next((each for each in found if each[0] == f"logprobs.{key}"), None)
            if place is None:
                place = [f"logprobs.{key}", []]
                found.append(place)
            place[1].append(value)
    if choice["finish_reason"]:
        found.append(["finish_reason", choice["finish_reason"]])


def _add_call(found: list[list[Any]], call: dict[str, Any]) -> None:
    function = call.pop("function")
    if "id" in call:
        assert call.pop("id")
        found.append(["call", call, function["name"]])
    if function.get("arguments"):
        _join(found, f"arguments of {call['index']}", function["arguments"])


def _join(found: list[list[Any]], key: str, text: str) -> None:
    if found and found[-1][0] == key:
        found[-1][1] += text
    else:
        found.append([key, text])
