"""Every field of OpenAI's protocol is classed, and what is sent is what the contract says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai.types
import pydantic
import pytest
import typing_extensions
from openai.types import chat, completion_create_params, moderation_create_params, responses
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

import gateway_server
import scripted_upstream
from tritonllm.gateway import app, contract, fields

TOOLS = Path(__file__).parents[4] / "tools"


# Requests: OpenAI's are TypedDicts.

PARAMS: dict[str, Any] = {
    "POST /v1/chat/completions": chat_create_params.CompletionCreateParamsStreaming,
    "POST /v1/completions": completion_create_params.CompletionCreateParamsStreaming,
    "POST /v1/responses": response_create_params.ResponseCreateParamsStreaming,
    "POST /v1/moderations": moderation_create_params.ModerationCreateParams,
}


def leaves(kind: Any) -> Iterator[Any]:
    """The types that a value can have, also inside of lists."""
    origin = typing.get_origin(kind)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        yield from leaves(typing.get_args(kind)[0])
    elif origin in (typing.Union, types.UnionType, list) or getattr(origin, "__name__", "") in (
        "Iterable",
        "Sequence",
        "SequenceNotStr",
    ):
        for member in typing.get_args(kind):
            yield from leaves(member)
    else:
        yield kind


def literals(kind: Any) -> set[Any]:
    return {
        value
        for leaf in leaves(kind)
        if typing.get_origin(leaf) is typing.Literal
        for value in typing.get_args(leaf)
    }


def unclassed(theirs: Any, ours: type[pydantic.BaseModel], path: str = "") -> Iterator[str]:
    """The fields of OpenAI's request that the table lacks."""
    hints = typing.get_type_hints(theirs, include_extras=True)
    known = fields.treatments(ours)
    names = {field.alias or name: name for name, field in ours.model_fields.items()}
    for name, kind in hints.items():
        if name not in known:
            yield f"{path}{name}"
            continue
        if known[name].guard == "Refused":
            continue
        field = ours.model_fields[names[name]]
        for inner, _ in contract.objects(field.annotation):
            for leaf in leaves(kind):
                if typing_extensions.is_typeddict(leaf) and accepts(inner, leaf):
                    yield from unclassed(leaf, inner, f"{path}{name}.")


def accepts(ours: type[pydantic.BaseModel], theirs: Any) -> bool:
    """Whether an object of this type is not refused as a whole, by its `type` or `role`."""
    hints = typing.get_type_hints(theirs, include_extras=True)
    for tag in ("type", "role"):
        if tag in hints and tag in ours.model_fields:
            wanted, offered = literals(ours.model_fields[tag].annotation), literals(hints[tag])
            if offered and not offered & wanted:
                return False
    return True


@pytest.mark.parametrize("route", contract.REQUESTS)
def test_every_field_of_openais_requests_is_classed(route: str) -> None:
    assert sorted(set(unclassed(PARAMS[route], contract.REQUESTS[route]))) == []


class NewOptions(typing.TypedDict, total=False):
    include_usage: bool
    newest: str


class NewRequest(typing.TypedDict, total=False):
    model: str
    new: str
    stream_options: NewOptions


def test_a_field_that_the_table_of_requests_lacks_is_found() -> None:
    found = list(unclassed(NewRequest, contract.REQUESTS["POST /v1/completions"]))
    assert found == ["new", "stream_options.newest"]


# Answers: OpenAI's are pydantic models.

OBJECTS: dict[str, type[pydantic.BaseModel]] = {
    "chat.completion": chat.ChatCompletion,
    "chat.completion.chunk": chat.ChatCompletionChunk,
    "text_completion": openai.types.Completion,
    "response": responses.Response,
    "model": openai.types.Model,
    "moderation": openai.types.ModerationCreateResponse,
}

# What repeats the request has the classes of the request.
WHOLE = {"instructions", "metadata", "tools[]", "tool_choice", "text", "reasoning", "categories", "category_scores", "category_applied_input_types", "error"}  # fmt: skip


def members(kind: Any, listed: bool = False) -> Iterator[tuple[type[pydantic.BaseModel], bool]]:
    yield from contract.objects(kind, listed)


def kind_of(model: type[pydantic.BaseModel]) -> str:
    (name, *_) = literals(model.model_fields["type"].annotation)
    return name


def lacking(model: type[pydantic.BaseModel], known: Any, path: str = "") -> Iterator[str]:
    """The fields of OpenAI's answer that the table lacks."""
    for field, info in model.model_fields.items():
        name = info.alias or field
        inner = list(dict.fromkeys(members(info.annotation)))
        key = f"{name}[]" if inner and inner[0][1] and f"{name}[]" in known else name
        if key not in known:
            yield f"{path}{name}"
            continue
        treatment = known[key]
        if isinstance(treatment, fields.Treatment):
            if inner and treatment.guard != "Refused" and key not in WHOLE:
                yield f"{path}{name}: its inner fields"
        elif any(inner_name.startswith("<") for inner_name in treatment):
            for each, _ in inner:
                tag = f"<{kind_of(each)}>"
                if tag not in treatment:
                    yield f"{path}{name}.{tag}"
                elif not isinstance(treatment[tag], fields.Treatment):
                    yield from lacking(each, treatment[tag], f"{path}{name}.{tag}.")
        else:
            for each, _ in inner:
                yield from lacking(each, treatment, f"{path}{name}.")


@pytest.mark.parametrize("name", contract.ANSWERS)
def test_every_field_of_openais_answers_is_classed(name: str) -> None:
    assert list(lacking(OBJECTS[name], contract.ANSWERS[name])) == []


def test_every_event_of_openais_responses_is_classed() -> None:
    found = []
    for each, _ in members(typing.get_args(responses.ResponseStreamEvent)[0]):
        event = contract.EVENTS.get(kind_of(each))
        if event is None:
            found.append(kind_of(each))
        elif not isinstance(event, fields.Treatment):
            found += list(lacking(each, event, f"{kind_of(each)}: "))
    assert found == []


def test_a_field_that_the_table_of_answers_lacks_is_found() -> None:
    class Inner(pydantic.BaseModel):
        content: str
        newest: str

    class Theirs(pydantic.BaseModel):
        id: str
        new: int
        choices: list[Inner]

    known = {"id": contract.ANSWERS["model"]["id"], "choices[]": {"content": contract.ANSWERS["model"]["id"]}}
    assert list(lacking(Theirs, known)) == ["new", "choices.newest"]


# What is sent.

GUARDRAIL = [{"rule": "names", "action": "Mask", "direction": "output", "count": 1}]
POSITION = json.dumps([{"7": {"logprob": -0.5, "rank": 1, "decoded_token": "Hi"}}])
TOOL_CALL = '[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]'


def sent(value: Any, known: Any, path: str = "") -> Iterator[str]:
    """The fields of an answer that the contract has not, or says are never sent."""
    if isinstance(value, list):
        for item in value:
            yield from sent(item, known, path)
        return
    if not isinstance(value, dict):
        return
    tag = f"<{value.get('type')}>"
    if tag in known:
        yield from sent(value, known[tag], f"{path}{tag}.")
        return
    for name, inner in value.items():
        treatment = known.get(name, known.get(f"{name}[]"))
        if treatment is None:
            yield f"{path}{name}"
        elif not isinstance(treatment, fields.Treatment):
            yield from sent(inner, treatment, f"{path}{name}.")
        elif treatment.guard == "Refused" and inner not in (None, [], {}):
            yield f"{path}{name} is sent: {inner}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    upstream = scripted_upstream.ScriptedUpstream(
        [
            scripted_upstream.piece("", reasoning_output=["hm"]),
            scripted_upstream.piece("Hi", logprobs=[POSITION]),
            scripted_upstream.end("", tool_calls=[TOOL_CALL], reason="tool_calls", guardrail=GUARDRAIL),
        ]
    )
    with gateway_server.serve(app.create_app(upstream)) as served:
        yield f"{served.url}/v1"


CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "top_logprobs": 1}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat.completion": ("/chat/completions", CHAT),
    "chat.completion.chunk": (
        "/chat/completions",
        {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "text_completion": ("/completions", {"model": "chat", "prompt": "Hi", "logprobs": 1}),
    "response": ("/responses", {"model": "chat", "input": "Hi"}),
    "moderation": ("/moderations", {"model": "chat", "input": ["a secret", "fine"]}),
}


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ASKED)
def test_what_is_sent_is_in_the_contract(url: str, name: str) -> None:
    path, body = ASKED[name]
    answer = httpx.post(url + path, json=body)
    assert answer.status_code == 200
    objects = events(answer.text) if body.get("stream") else [answer.json()]
    assert [found for each in objects for found in sent(each, contract.ANSWERS[name])] == []


def test_a_model_that_is_sent_is_in_the_contract(url: str) -> None:
    assert list(sent(httpx.get(f"{url}/models/chat").json(), contract.ANSWERS["model"])) == []


def test_events_that_are_sent_are_in_the_contract(url: str) -> None:
    answer = httpx.post(f"{url}/responses", json={"model": "chat", "input": "Hi", "stream": True})
    for event in events(answer.text):
        known = contract.EVENTS[event["type"]]
        assert not isinstance(known, fields.Treatment)
        assert list(sent(event, known)) == []


def test_a_field_that_is_sent_without_being_in_the_contract_is_found() -> None:
    known = contract.ANSWERS["model"]
    assert list(sent({"id": "chat", "prompt": "text", "shutdown_date": "soon"}, known)) == [
        "prompt",
        "shutdown_date is sent: soon",
    ]


# The page.


def test_the_page_is_current() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        tool = importlib.import_module("guard_contract")
    assert tool.PAGE.read_text() == tool.page(), "run `python tools/guard_contract.py`"


def test_the_check_passes_as_a_command() -> None:
    subprocess.run([sys.executable, TOOLS / "guard_contract.py", "--check"], check=True, timeout=200)


def test_every_field_of_a_request_has_a_sentence_for_people() -> None:
    for model in contract.REQUESTS.values():
        for row in contract.request_rows(model):
            assert row.treatment.note.endswith("."), row.path
            assert (
                row.treatment.note[0].isupper()
                or row.treatment.note[0] in "`-0123456789"
                or row.treatment.note.startswith("vLLM")
            ), row.path
