"""LoRA adapters of a running endpoint: changed in place under load, asked over OpenAI's API and Triton's."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.grpc as triton
from google.protobuf import json_format

import lora_files
import models
from integration import ask, server
from tritonllm import files, versions
from tritonllm.render import config
from tritonllm_operator import facts
from tritonllm_operator import triton as operator_triton

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(400),
]


def text(weights: Path, *adapters: str) -> str:
    listed = "".join(f"\n  - {{name: {name}, path: {name}}}" for name in adapters)
    return f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: chat}}
spec:
  pool: test
  model: {{path: {weights}/tiny}}
  engine:
    type: vllm
    args: {{enforce_eager: true, max_model_len: 256, max_num_seqs: 8, dtype: float32, enable_lora: true,
            max_loras: 2, max_cpu_loras: 4, max_lora_rank: 8}}
  adapters: {listed or "[]"}
  guardrails:
    input: [{{name: secret, banned: {{phrases: [swordfish]}}, action: Block}}]
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    models.tiny_llama(root / "tiny")
    lora_files.adapter(root / "sql", seed=1)
    lora_files.adapter(root / "legal", seed=2)
    lora_files.adapter(root / "huge", rank=64)
    return root


@pytest.fixture(scope="module")
def served(weights: Path) -> Iterator[server.Served]:
    with server.running([text(weights, "sql", "huge")], weights=weights, gateway={}, seconds=270) as running:
        yield running


def change(served: server.Served, weights: Path, *adapters: str) -> None:
    """Loads the pipeline with other adapters, as an operator does."""
    (endpoint,), problems = files.parse(text(weights, *adapters), "test")
    assert not problems
    pipeline = config.models(endpoint)[-1]
    with triton.InferenceServerClient(served.grpc) as client:
        client.load_model(
            "chat", config=json_format.MessageToJson(pipeline, preserving_proto_field_name=True)
        )


def complete(served: server.Served, model: str, tokens: int = 12, **body: Any) -> httpx.Response:
    asked = {"prompt": "The engine reads", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return httpx.post(f"{served.gateway}/v1/completions", json={"model": model, **asked, **body}, timeout=60)


def answer(served: server.Served, model: str) -> str:
    response = complete(served, model)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == model
    return response.json()["choices"][0]["text"]


def listed(served: server.Served) -> dict[str, str | None]:
    """Each model with its parent."""
    found = httpx.get(f"{served.gateway}/v1/models").json()["data"]
    return {each["id"]: each.get("parent") for each in found}


def test_an_adapter_is_a_model_of_the_openai_api_and_a_parameter_of_tritons(served: server.Served) -> None:
    assert listed(served) == {"chat": None, "chat:sql": "chat"}
    assert httpx.get(f"{served.gateway}/v1/models/chat:sql").json()["parent"] == "chat"
    adapted = answer(served, "chat:sql")
    assert adapted != answer(served, "chat")
    asked = {"text_input": "The engine reads", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    assert ask.generate(served, "chat", **asked, lora_name="sql")["text_output"] == adapted
    counted = {"adapter": "sql", "outcome": "length"}
    server.until(lambda: ask.metric(served, "tritonllm_adapter_requests_total", **counted) >= 1, 30)


def test_what_is_absent_or_refused_is_a_404_with_the_names_of_those_that_are_not(
    served: server.Served,
) -> None:
    for name in ("nosuch", "huge"):
        response = complete(served, f"chat:{name}")
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert f"`{name}`" in error["message"]
        assert "loaded are: `sql`" in error["message"]
    assert "64 is greater than max_lora_rank 8" in served.log.read_text()
    assert httpx.get(f"{served.gateway}/v1/models/chat:huge").status_code == 404


def test_the_operator_learns_how_each_of_them_is(served: server.Served) -> None:
    async def asked() -> facts.ModelState:
        host, _, port = served.grpc.partition(":")
        async with operator_triton.Triton("llm-1", host, "", int(port)) as pod:
            return (await pod.models())["chat"]

    sql, huge = asyncio.run(asked()).adapters
    assert (sql["name"], sql["state"], sql["message"]) == ("sql", "Ready", "")
    assert (huge["name"], huge["state"]) == ("huge", "Refused")
    assert huge["message"] == "LoRA rank 64 is greater than max_lora_rank 8."


def test_the_rules_of_the_endpoint_are_those_of_its_adapters(served: server.Served) -> None:
    response = complete(served, "chat:sql", prompt="swordfish")
    assert response.json()["error"]["code"] == "content_filter"


class Load:
    """Asks for models as fast as it can, until the end of the block.

    Attributes:
        answers: by model, each text with the number of times it came.
        failed: whatever else came.
    """

    def __init__(self, served: server.Served, *models: str) -> None:
        self._served = served
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(model,)) for model in models]
        self.answers: dict[str, Counter[str]] = {model: Counter() for model in models}
        self.failed: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, model: str) -> None:
        while not self._over.is_set():
            response = complete(self._served, model, tokens=24)
            if response.status_code == 200:
                self.answers[model][response.json()["choices"][0]["text"]] += 1
            else:
                self.failed.append(response.text)


def test_adapters_are_added_and_removed_under_load_without_a_failed_request_or_a_new_engine(
    served: server.Served, weights: Path
) -> None:
    engine = served.stub("chat-engine").pid
    with Load(served, "chat", "chat", "chat:sql") as load:
        change(served, weights, "sql", "legal")
        server.until(lambda: "chat:legal" in listed(served), 60, served.story)
        legal = answer(served, "chat:legal")
        change(served, weights, "sql")
        server.until(lambda: "chat:legal" not in listed(served), 60, served.story)
        server.until(lambda: "the adapter legal is removed" in served.log.read_text(), 60, served.story)
        server.until(lambda: all(sum(texts.values()) > 3 for texts in load.answers.values()), 60)
    assert not load.failed
    # Whoever asked, and whatever was in the same batch: one model, one answer.
    assert {len(texts) for texts in load.answers.values()} == {1}
    assert legal not in {*load.answers["chat"], *load.answers["chat:sql"]}
    assert served.stub("chat-engine").pid == engine
    assert served.log.read_text().count("the adapter sql is ready") == 1


def test_a_request_that_is_being_answered_keeps_its_adapter_when_it_is_removed(
    served: server.Served, weights: Path
) -> None:
    change(served, weights, "sql", "legal")
    server.until(lambda: "chat:legal" in listed(served), 60, served.story)
    found: list[httpx.Response] = []
    running = threading.Thread(target=lambda: found.append(complete(served, "chat:legal", tokens=240)))
    running.start()
    server.until(lambda: ask.metric(served, "tritonllm_requests_running") >= 1, 60, served.story)
    change(served, weights, "sql")
    running.join()
    assert found[0].status_code == 200, found[0].text
    assert found[0].json()["usage"]["completion_tokens"] == 240
    assert complete(served, "chat:legal").status_code == 404
