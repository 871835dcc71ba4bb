"""Adapters as models of OpenAI's API: `endpoint:adapter`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import httpx
import openai
import pytest

import gateway_server
from scripted_upstream import ScriptedUpstream, end
from tritonllm import errors
from tritonllm.gateway import app, upstream


class WithAdapters(ScriptedUpstream):
    """Has the endpoint `chat` with two adapters."""

    def endpoints(self) -> dict[str, upstream.Endpoint]:
        (endpoint,) = super().endpoints().values()
        return {"chat": dataclasses.replace(endpoint, adapters=["legal", "sql"])}


@pytest.fixture
def source() -> WithAdapters:
    return WithAdapters([end("Hello")])


@pytest.fixture
def url(source: WithAdapters) -> Iterator[str]:
    with gateway_server.serve(app.create_app(source)) as served:
        yield served.url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_they_are_listed_behind_their_endpoint_which_is_their_parent(client: openai.OpenAI, url: str) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["chat", "chat:legal", "chat:sql"]
    assert [(model.model_extra or {}).get("parent") for model in listed] == [None, "chat", "chat"]
    assert client.models.retrieve("chat:sql") == listed[2]
    assert httpx.get(f"{url}/v1/models/chat:sql").headers["x-guardrail-policy"] == "policy-hash"
    with pytest.raises(openai.NotFoundError, match="chat:other"):
        client.models.retrieve("chat:other")


def test_every_route_asks_the_endpoint_with_the_adapter_and_answers_with_the_name_that_was_asked(
    client: openai.OpenAI, source: WithAdapters
) -> None:
    chat = client.chat.completions.create(
        model="chat:sql", messages=[{"role": "user", "content": "Hi"}], temperature=0.5
    )
    assert chat.model == "chat:sql"
    assert source.sampling() == {"n": 1, "temperature": 0.5, "lora_name": "sql"}
    assert client.completions.create(model="chat:legal", prompt="Hi").model == "chat:legal"
    assert source.sampling()["lora_name"] == "legal"
    assert client.responses.create(model="chat:sql", input="Hi").model == "chat:sql"
    assert source.sampling()["lora_name"] == "sql"
    client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}])
    assert "lora_name" not in source.sampling()


def test_the_rules_of_an_adapter_are_those_of_its_endpoint(
    client: openai.OpenAI, source: WithAdapters
) -> None:
    assert client.moderations.create(model="chat:sql", input="a secret").results[0].flagged
    assert source.checked[-1] == ("chat", "a secret", "input")


def test_one_that_does_not_exist_is_the_callers_model_that_was_not_found(
    client: openai.OpenAI, source: WithAdapters
) -> None:
    source.script = [errors.RequestError("model_not_found", "lora_name", "the adapter `x` does not exist")]
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="chat:x", messages=[{"role": "user", "content": "Hi"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_an_adapter_is_no_field_of_a_body(url: str) -> None:
    body = {"model": "chat", "prompt": "Hi", "lora_name": "sql"}
    assert httpx.post(f"{url}/v1/completions", json=body).status_code == 400
