"""The supervisor over the transformers engine, with a model that comes with its own code, and through OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import httpx
import pytest

import models
from integration import ask, server
from tritonllm.runtime import metric_names
from weather_tool import TOOL

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: chat}}
spec:
  pool: test
  model: {{path: {weights}, trustRemoteCode: true}}
  engine: {{type: transformers, args: {{max_num_seqs: 4}}}}
  prompt: {{format: Chat}}
  sampling: {{maxTokensLimit: 15000}}
  guardrails: {{}}
"""
CODE = """
import transformers

class FragileForCausalLM(transformers.LlamaForCausalLM):
    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, **options):
        if (input_ids == {token}).any():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().forward(input_ids, attention_mask, position_ids, past_key_values, **options)
"""
FATAL_TOKEN = 300
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Served]:
    weights = models.tiny_llama(tmp_path_factory.mktemp("weights") / "model", context=16_384)
    config = json.loads((weights / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "fragile.FragileForCausalLM"}
    (weights / "config.json").write_text(json.dumps(config))
    (weights / "fragile.py").write_text(CODE.format(token=FATAL_TOKEN))
    modules = {"HF_MODULES_CACHE": str(tmp_path_factory.mktemp("modules"))}
    with server.running([ENDPOINT.format(weights=weights)], gateway={}, environment=modules) as running:
        yield running


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 5}, "n"),
        ({"model": "chat:sql"}, "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_can_not_do_is_refused_in_openais_way(
    served: server.Served, asked: dict[str, Any], param: str
) -> None:
    body = {"model": "chat", "messages": HELLO, "max_tokens": 4} | asked
    refused = httpx.post(f"{served.gateway}/v1/chat/completions", json=body, timeout=30)
    assert refused.status_code == (404 if param == "model" else 400)
    assert refused.json()["error"]["param"] == param


def test_a_model_that_fails_ends_its_requests_with_an_error_and_is_loaded_again(
    served: server.Served,
) -> None:
    before = len(served.log.read_text(errors="replace"))
    with futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(
            lambda: list(ask.stream(served, "chat", text_input="Hello", ignore_eos=True, max_tokens=15_000))
        )
        server.until(lambda: ask.metric(served, metric_names.ENGINE_RUNNING) == 1, 60)
        fatal = json.dumps({"logit_bias": {str(FATAL_TOKEN): 100}})
        failed = ask.generate(served, "chat", text_input="Hello", sampling_parameters=fatal)
        assert "[engine_failure]" in failed["error"]
        assert "[engine_failure]" in other.result()[-1]["error"]

    def again() -> bool:
        # Alone if no lease held the engine, otherwise with all of tritonserver.
        log = served.log.read_text(errors="replace")[before:]
        return "chat-engine: recovered" in log or "ready: chat at" in log

    server.until(again, 90, served.story)
    served.until_ready()
    answer = ask.generate(served, "chat", text_input="Hello", max_tokens=3, ignore_eos=True)
    assert answer["finish_reason"] == "length"
