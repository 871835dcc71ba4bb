"""Rules that ask a classifier, through the real tritonserver; the classifier is a small one that the tests train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent import futures
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml
from google.protobuf import json_format

import classifiers
from integration import ask, server
from tritonllm import files
from tritonllm.render import config
from tritonllm.runtime import metric_names

HEAD = "apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\n"


def _endpoint(name: str, guardrails: dict[str, Any], **args: Any) -> str:
    spec = {
        "pool": "test",
        "engine": {"type": "simulated", "args": {"reply": "echo"} | args},
        "guardrails": guardrails,
    }
    return f"{HEAD}metadata: {{name: {name}}}\nspec: {json.dumps(spec)}\n"


def _rule(action: str = "Block", **classifier: Any) -> dict[str, Any]:
    asks = {"model": "insults", "labels": ["insult"], "window": 128, "timeoutSeconds": 30} | classifier
    return {"name": "no-insults", "action": action, "classifier": asks}


SLOWLY = {"inter_token_seconds": 0.02}
# The endpoints whose rules ask come first: the order of the files is not that of the loads.
ENDPOINTS = [
    _endpoint("asks", {"input": [_rule()]}),
    _endpoint("holds", {"output": [_rule()]}),
    _endpoint("observes", {"output": [_rule(mode="Observe")]}, inter_token_seconds=0.05),
    _endpoint("long", {"output": [_rule()]}, **SLOWLY),
    _endpoint("flags", {"input": [_rule("Flag")], "output": [_rule("Flag")]}),
    _endpoint("mistaken", {"input": [_rule(labels=["rude"])]}),
    HEAD
    + """
metadata: {name: insults}
spec:
  pool: test
  model: {path: insults}
  engine: {type: classifier, args: {device: cpu}}
  guardrails: {}
""",
]
ENDPOINTS += [
    _endpoint("polite", {"input": [_rule(model="profanity", labels=["1"], threshold=0.5)]}),
    HEAD
    + """
metadata: {name: profanity}
spec:
  pool: test
  model: {path: profanity, allowPickle: true}
  engine: {type: classifier, args: {library: sklearn}}
  guardrails: {}
""",
]
GOOD = "the weather today is good and the river is blue and we walk in the green city "
BAD = "you are vermin "


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Served]:
    weights = tmp_path_factory.mktemp("weights")
    classifiers.trained(weights / "insults")
    data = resources.files("profanity_check") / "data"
    with resources.as_file(data) as directory:
        shutil.copytree(directory, weights / "profanity")
    with server.running(ENDPOINTS, weights=weights, gateway={}) as running:
        yield running


def _streamed(served: server.Served, model: str, text: str) -> tuple[str, dict[str, Any]]:
    events = list(ask.stream(served, model, text_input=text, max_tokens=2000))
    return "".join(event.get("text_output", "") for event in events), events[-1]


def _chat(served: server.Served, model: str, text: str) -> tuple[str, str]:
    """Streams through the gateway; the text, and how it ended."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "max_tokens": 2000,
    }
    said, ended = "", ""
    with httpx.stream("POST", f"{served.gateway}/v1/chat/completions", json=body, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                for choice in chunk["choices"]:
                    said += choice["delta"].get("content") or ""
                    ended = choice["finish_reason"] or ended
    return said, ended


def _inferred(served: server.Served, model: str, tensor: str, texts: tuple[str, ...], output: str) -> Any:
    """An output of a batched model, for all texts in one request."""
    given = triton.InferInput(tensor, [len(texts), 1], "BYTES")
    given.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=object))
    with triton.InferenceServerClient(served.grpc) as client:
        answer: Any = client.infer(model, [given])
    return answer.as_numpy(output)


def test_a_classifier_of_scikit_learn_is_asked_like_any_other(served: server.Served) -> None:
    refused = ask.generate(served, "polite", text_input="you are a stupid bitch")
    assert refused["finish_reason"] == "content_filter"
    assert ask.generate(served, "polite", text_input=GOOD.strip())["text_output"] == GOOD.strip()


def test_the_classifier_scores_every_label_of_a_batch_of_texts(served: server.Served) -> None:
    texts = (GOOD, BAD, GOOD * 20 + BAD)
    labels = _inferred(served, "insults", "text", texts, "label")
    assert labels.tolist() == [[b"fine", b"insult"]] * 3
    good, bad, last_of_many = _inferred(served, "insults", "text", texts, "score")[:, 1]
    assert good < 0.1
    assert bad > 0.9
    assert last_of_many > 0.9


def test_a_prompt_is_judged_before_the_engine_sees_it(served: server.Served) -> None:
    assert ask.generate(served, "asks", text_input=GOOD)["text_output"] == GOOD
    refused = ask.generate(served, "asks", text_input=GOOD + BAD)
    assert refused["finish_reason"] == "content_filter"
    assert refused["text_output"] == ""
    assert refused["num_input_tokens"] == 0
    [verdict] = json.loads(refused["guardrail"])
    assert verdict == {
        "rule": "no-insults", "action": "Block", "direction": "input", "count": 1, "field": "text_input",
    }  # fmt: skip


def test_a_tool_result_of_an_earlier_turn_is_judged(served: server.Served) -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": '{"q": "weather"}'}}
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": BAD},
        {"role": "user", "content": "thanks"},
    ]
    refused = ask.generate(served, "asks", messages=json.dumps(turns))
    assert refused["finish_reason"] == "content_filter"
    assert json.loads(refused["guardrail"])[0]["field"] == "messages[2].content"


def test_held_text_leaves_only_after_it_was_judged_and_is_the_same_whole_and_streamed(
    served: server.Served,
) -> None:
    text = GOOD * 4 + BAD + GOOD * 4
    streamed, last = _streamed(served, "holds", text)
    whole = ask.generate(served, "holds", text_input=text, max_tokens=2000)
    assert streamed == whole["text_output"]
    assert last["finish_reason"] == whole["finish_reason"] == "content_filter"
    assert text.startswith(streamed)
    # Up to the first window that has the insult: less than a window before it.
    assert text.index(BAD) - 128 < len(streamed) <= text.index(BAD)
    clean, last = _streamed(served, "holds", GOOD * 8)
    assert clean == GOOD * 8
    assert last["finish_reason"] == "stop"


def test_an_observed_answer_is_streamed_at_once_and_ends_when_the_verdict_comes(
    served: server.Served,
) -> None:
    text = BAD + GOOD * 12
    streamed, last = _streamed(served, "observes", text)
    assert last["finish_reason"] == "content_filter"
    assert streamed.startswith(BAD)
    assert len(streamed) < len(text)
    short, last = _streamed(served, "observes", BAD)
    assert short == BAD
    assert last["finish_reason"] == "content_filter"


def test_a_flag_reports_and_changes_nothing(served: server.Served) -> None:
    answer = ask.generate(served, "flags", text_input=BAD)
    assert answer["text_output"] == BAD
    assert answer["finish_reason"] == "stop"
    directions = [(found["direction"], found["action"]) for found in json.loads(answer["guardrail"])]
    assert directions == [("input", "Flag"), ("output", "Flag")]


def test_a_label_that_the_classifier_does_not_have_fails_the_request_and_names_those_it_has(
    served: server.Served,
) -> None:
    error = ask.generate(served, "mistaken", text_input=GOOD)["error"]
    assert "[guardrail_failure]" in error
    assert "no label 'rude'; it has 'fine', 'insult'" in error


def test_the_guardrail_model_asks_the_classifier_too(served: server.Served) -> None:
    blocked = _inferred(served, "asks-guardrail", "text_input", (GOOD, BAD), "blocked")
    assert blocked.reshape(-1).tolist() == [False, True]


def test_the_gateway_refuses_what_the_classifier_finds_and_does_not_offer_it_as_a_model(
    served: server.Served,
) -> None:
    body = {"model": "asks", "messages": [{"role": "user", "content": BAD}]}
    refused = httpx.post(f"{served.gateway}/v1/chat/completions", json=body, timeout=30)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_filter"
    held = httpx.post(f"{served.gateway}/v1/chat/completions", json=body | {"model": "holds"}, timeout=30)
    assert held.json()["choices"][0]["finish_reason"] == "content_filter"
    moderated = httpx.post(
        f"{served.gateway}/v1/moderations", json={"model": "asks", "input": [GOOD, BAD]}, timeout=30
    )
    assert [found["flagged"] for found in moderated.json()["results"]] == [False, True]
    listed = httpx.get(f"{served.gateway}/v1/models", timeout=30).json()["data"]
    assert "insults" not in [model["id"] for model in listed]


def test_judgements_are_counted_by_rule_and_outcome(served: server.Served) -> None:
    ask.generate(served, "asks", text_input=GOOD)
    ask.generate(served, "asks", text_input=BAD)
    for outcome in ("pass", "match"):
        server.until(
            lambda outcome=outcome: ask.metric(
                served, metric_names.JUDGEMENTS, endpoint="asks", rule="no-insults", outcome=outcome
            ),
            60,
        )
    seconds = f"{metric_names.JUDGEMENT}_count"
    server.until(lambda: ask.metric(served, seconds, endpoint="asks", rule="no-insults"), 60)


def test_a_policy_that_is_edited_under_judged_streams_breaks_none_of_them(served: server.Served) -> None:
    masked = {"name": "bird", "action": "Mask", "banned": {"phrases": ["sparrow"]}}
    edited, problems = files.resource(
        yaml.safe_load(_endpoint("long", {"output": [_rule(), masked]}, **SLOWLY))
    )
    assert edited is not None, problems
    [pipeline] = [model for model in config.models(edited) if model.name == "long"]
    body = {"parameters": {"config": json_format.MessageToJson(pipeline)}}
    good, bad = GOOD * 30, GOOD * 25 + BAD + GOOD * 4
    with futures.ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(_chat, served, "long", text) for text in (good, bad)]
        running = "tritonllm_engine_requests_running"
        server.until(lambda: ask.metric(served, running, endpoint="long") == 2, 60)
        loaded = httpx.post(f"{served.http}/v2/repository/models/long/load", json=body, timeout=60)
        assert loaded.status_code == 200, loaded.text
        assert ask.metric(served, running, endpoint="long") == 2
        assert _chat(served, "long", "a sparrow") == ("a [REDACTED]", "stop")
        whole, cut = (stream.result() for stream in streams)
    assert whole == (good, "stop")
    assert cut[1] == "content_filter"
    assert bad.startswith(cut[0])
    assert BAD not in cut[0]


def test_an_endpoint_is_not_loaded_if_its_classifier_can_not_be(tmp_path: Path) -> None:
    broken = tmp_path / "insults"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "bert"}')
    (broken / "model.safetensors").write_bytes(b"")
    with server.running(ENDPOINTS, weights=tmp_path, wait=False) as running:
        server.until(lambda: running.process.poll() is not None, 120, running.story)
        log = running.log.read_text()
    assert "asks is not served: it needs insults, which could not be loaded" in log
