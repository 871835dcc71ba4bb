"""`POST /v1/completions`, asked by OpenAI's own client."""

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


def echoed(asked: dict[str, Any]) -> list[Any]:
    """Repeats the prompt, letter by letter, once for each choice."""
    n = json.loads(asked["sampling_parameters"])["n"]
    text = asked["text_input"]
    if text == "blocked":
        return [end(*[""] * n, reason="content_filter", guardrail=[BLOCKED])]
    if text == "fails":
        return [errors.RequestError("engine_failure", "", "the engine has died")]
    return [*(piece(*[letter] * n) for letter in text), end(*[""] * n)]


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(echoed)


@pytest.fixture
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with gateway_server.serve(app.create_app(upstream)) as served:
        yield f"{served.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_an_answer_is_one_object(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    answer = client.completions.create(model="chat", prompt="Hi", max_tokens=5)
    assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [("Hi", "stop")]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.id.startswith("cmpl-")
    assert upstream.sampling() == {"n": 1, "max_tokens": 5}


def test_a_stream_ends_with_the_finish_reason_and_the_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.completions.create(
            model="chat", prompt="Hi", stream=True, stream_options={"include_usage": True}
        )
    )
    *with_choice, usage = chunks
    assert [chunk.choices[0].text for chunk in with_choice] == ["H", "i", ""]
    assert with_choice[-1].choices[0].finish_reason == "stop"
    assert (with_choice[-1].model_extra or {})["guardrails"] == []
    assert usage.usage is not None
    assert usage.usage.prompt_tokens == 7


def test_every_prompt_has_n_choices(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="chat", prompt=["ab", "c"], n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, "ab"),
        (1, "ab"),
        (2, "c"),
        (3, "c"),
    ]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 14

    found = dict.fromkeys(range(4), "")
    reasons: list[int] = []
    for chunk in client.completions.create(model="chat", prompt=["ab", "c"], n=2, stream=True):
        (choice,) = chunk.choices
        found[choice.index] += choice.text
        if choice.finish_reason is not None:
            reasons.append(choice.index)
    assert found == {0: "ab", 1: "ab", 2: "c", 3: "c"}
    assert sorted(reasons) == [0, 1, 2, 3]


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_prompt_among_several_is_named(url: str, upstream: ScriptedUpstream, stream: bool) -> None:
    body = {"model": "chat", "prompt": ["blocked", "fine"], "stream": stream}
    answer = httpx.post(f"{url}/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt[0]"
    assert answer.json()["error"]["code"] == "content_filter"


def test_a_prompt_that_fails_ends_the_others(url: str, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda asked: echoed(asked) if asked["text_input"] == "fails" else [piece("a")]
    upstream.held = True
    answer = httpx.post(f"{url}/completions", json={"model": "chat", "prompt": ["goes on", "fails"]})
    assert answer.status_code == 500
    assert upstream.closed == 1


def test_log_probabilities_are_in_openais_form(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    def position(text: str, other: str) -> str:
        return json.dumps(
            [
                {
                    "1": {"logprob": -0.5, "rank": 1, "decoded_token": text},
                    "2": {"logprob": -1.5, "rank": 2, "decoded_token": other},
                }
            ]
        )

    upstream.script = [
        piece("Hi", logprobs=[position("Hi", "Ho")]),
        end(" you", logprobs=[position(" you", " me")]),
    ]
    whole = client.completions.create(model="chat", prompt="x", logprobs=2).choices[0].logprobs
    assert whole is not None
    assert whole.tokens == ["Hi", " you"]
    assert whole.token_logprobs == [-0.5, -0.5]
    assert whole.top_logprobs == [{"Hi": -0.5, "Ho": -1.5}, {" you": -0.5, " me": -1.5}]
    assert whole.text_offset == [0, 2]

    streamed = [
        chunk.choices[0].logprobs
        for chunk in client.completions.create(model="chat", prompt="x", logprobs=2, stream=True)
    ]
    assert [found.text_offset for found in streamed if found is not None] == [[0], [2]]
    least = client.completions.create(model="chat", prompt="x", logprobs=0).choices[0].logprobs
    assert least is not None
    assert least.top_logprobs == [{"Hi": -0.5}, {" you": -0.5}]


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        ({"prompt": [1, 2]}, "prompt", "rules are for texts"),
        ({"prompt": [[1, 2]]}, "prompt", "rules are for texts"),
        ({"prompt": []}, "prompt", "must not be empty"),
        ({"prompt": ["a", 5]}, "prompt[1]", "must be a string"),
        ({"prompt": ["a"] * 129}, "prompt", "at most 128"),
        ({}, "prompt", "is required"),
        ({"prompt": "a", "echo": True}, "echo", "does not repeat the prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "fill-in-the-middle"),
        ({"prompt": "a", "best_of": 3}, "best_of", "use `n`"),
        ({"prompt": "a", "logprobs": 21}, "logprobs", "at most 20"),
    ],
)
def test_what_is_wrong_is_said_with_the_callers_field(
    url: str, asked: dict[str, Any], param: str, said: str
) -> None:
    answer = httpx.post(f"{url}/completions", json={"model": "chat", **asked})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert said in answer.json()["error"]["message"]


def test_what_asks_for_nothing_is_accepted(url: str) -> None:
    body = {
        "model": "chat",
        "prompt": "a",
        "echo": False,
        "suffix": None,
        "best_of": 1,
        "use_beam_search": False,
        "user": "x",
    }
    assert httpx.post(f"{url}/completions", json=body).status_code == 200


def test_a_field_of_the_pipeline_has_the_callers_name(url: str, upstream: ScriptedUpstream) -> None:
    upstream.script = [errors.RequestError("invalid_argument", "text_input", "is too long")]
    answer = httpx.post(f"{url}/completions", json={"model": "chat", "prompt": "a"})
    assert answer.json()["error"]["param"] == "prompt"
