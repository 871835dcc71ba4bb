"""Tool calls and structured outputs of the real vLLM through OpenAI's API, with a tiny random Llama."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

import models
from integration import server
from tritonllm import versions
from weather_tool import SCHEMA, TOOL

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(400),
]

MESSAGES = [{"role": "user", "content": "Hello"}]
ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  model: {{path: {weights}}}
  engine:
    type: vllm
    args:
      enforce_eager: true
      max_model_len: 512
      max_num_seqs: 8
      # A random model would say nothing but spaces where a grammar allows them.
      structured_outputs_config: {{backend: xgrammar, disable_any_whitespace: true}}
      {args}
  prompt: {prompt}
  guardrails: {{}}
"""


def endpoint(
    weights: Path, args: str = "tool_call_parser: hermes", prompt: str = "{format: Raw}", name: str = "chat"
) -> str:
    return ENDPOINT.format(name=name, weights=weights, args=args, prompt=prompt)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Served]:
    weights = models.tiny_llama(tmp_path_factory.mktemp("weights") / "model")
    with server.running([endpoint(weights)], seconds=270, gateway={}) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: server.Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.gateway}/v1", api_key="none", max_retries=0, timeout=120)


NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize(("choice", "reason"), [("required", "tool_calls"), (NAMED, "stop")])
def test_a_call_that_has_to_come_comes_and_fits_its_schema(
    client: openai.OpenAI, choice: object, reason: str
) -> None:
    answer = client.chat.completions.create(
        model="chat",
        messages=MESSAGES,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
        tool_choice=choice,  # type: ignore[arg-type]
        parallel_tool_calls=False,
        max_tokens=400,
        temperature=1,
        seed=1,
    ).choices[0]
    [call] = answer.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    assert answer.finish_reason == reason


def test_a_streamed_call_is_the_same_as_a_whole_one(client: openai.OpenAI) -> None:
    name = arguments = ""
    reasons = []
    with client.chat.completions.create(
        model="chat",
        messages=MESSAGES,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=400,
        temperature=1,
        seed=1,
        stream=True,
    ) as chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                reasons.append(choice.finish_reason)
                for call in choice.delta.tool_calls or []:
                    assert call.index == 0
                    assert call.function is not None
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
    assert name == "get_weather"
    assert json.loads(arguments)["city"] in ("Rome", "Oslo")
    assert reasons[-1] == "tool_calls"


def test_a_call_that_max_tokens_cuts_ends_with_length(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="chat",
        messages=MESSAGES,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
        tool_choice="required",
        max_tokens=20,
    ).choices[0]
    assert answer.finish_reason == "length"


def test_an_answer_fits_the_schema_of_response_format(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="chat",
        messages=MESSAGES,  # type: ignore[arg-type]
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}},
        max_tokens=200,
        temperature=0,
    ).choices[0]
    found = json.loads(answer.message.content or "")
    assert found["city"] in ("Rome", "Oslo")
    assert isinstance(found["warm"], bool)
    assert answer.finish_reason == "stop"


def test_a_conversation_with_a_call_and_its_result_is_answered(client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It rains."},
    ]
    answer = client.chat.completions.create(
        model="chat",
        messages=messages,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
        max_tokens=4,
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content


REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}Hi"
OTHER = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: other}
spec: {pool: test, engine: {type: simulated}, guardrails: {}}
"""


def test_endpoints_that_no_request_could_use_do_not_load(tmp_path: Path) -> None:
    weights = models.tiny_llama(tmp_path / "weights")
    bare = models.tiny_llama(tmp_path / "bare", chat_template=False)
    endpoints = [
        endpoint(weights, "tool_call_parser: herms", name="parser"),
        endpoint(bare, prompt="{format: Chat}", name="bare"),
        endpoint(weights, f'chat_template: "{REFUSES_SYSTEM}"', "{format: Chat, system: Be kind.}", "system"),
    ]
    with server.running([OTHER, *endpoints], seconds=240) as served:
        status, ready = served.probe("/readyz")
    assert status == 200
    for name, reason in (
        ("parser", "engine.args.tool_call_parser: this vLLM has no parser `herms`; it has "),
        ("bare", "spec.prompt.format: Chat needs a chat template"),
        ("system", "spec.prompt.system: this model's chat template takes no system message: No system"),
    ):
        assert f"{name}-engine could not be loaded: ValueError: {reason}" in ready
