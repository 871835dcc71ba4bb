"""Every engine type that generates text keeps the same promises, behind the real tritonserver.

vLLM and transformers serve the demo model in float32, and give the same answers.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from integration import ask, server
from tritonllm import engines, versions
from tritonllm.runtime import metric_names

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(400),
]

ROOT = Path(__file__).parents[3]
WEIGHTS = Path(os.environ.get("TRITONLLM_WEIGHTS") or Path.home() / ".cache" / "tritonllm" / "weights")
CONTEXT = 1024
DEADLINE_SECONDS = 20
ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  {model}
  engine: {{type: {name}, args: {args}}}
  guardrails: {{input: [{{name: bird, banned: {{phrases: [falcon]}}, action: Block}}]}}
  sampling: {{maxTokensLimit: 1000}}
  limits: {{requestTimeoutSeconds: {deadline}}}
"""
[GATEWAY] = server.free_ports(1)
ARGS: dict[str, dict[str, Any]] = {
    # A thousand tokens take longer than the deadline.
    "simulated": {"inter_token_seconds": 0.05},
    "vllm": {"dtype": "float32", "max_num_seqs": 8, "enforce_eager": True},
    "transformers": {"dtype": "float32", "max_num_seqs": 8},
    # In front of the simulated one, by the gateway of the same server.
    "openai": {"url": f"http://127.0.0.1:{GATEWAY}/v1", "model": "simulated", "api": "vllm"},
}
# Those that compute probabilities.
MODELS = ("vllm", "transformers")
PROMPT = "Once upon a time, there was a"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
ENDLESS = {"ignore_eos": True, "max_tokens": 1000}

# What vLLM and transformers answer alike at temperature 0.
SAME: dict[str, dict[str, Any]] = {
    "plain": {},
    "long": {"max_tokens": 32},
    "until it ends": {
        "text_input": "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n",
        "max_tokens": 20,
        "ignore_eos": False,
    },
    "other letters": {"text_input": "Größe, 東京, 🙂: „", "max_tokens": 16},
    "stop": {"stop": [" the", "ing"], "max_tokens": 20},
    "stop included": {"stop": [" the", "ing"], "include_stop_str_in_output": True, "max_tokens": 20},
    "stop tokens": {"stop_token_ids": [260, 281, 288], "max_tokens": 20},
    "min tokens": {"stop_token_ids": [260, 281, 288], "min_tokens": 10, "max_tokens": 20},
    "bias": {"logit_bias": {"1000": 100, "260": -100}},
    "bad words": {"bad_words": ["little", "named", "girl"], "max_tokens": 16},
    "repetition": {"repetition_penalty": 1.3, "max_tokens": 20},
    "presence and frequency": {"presence_penalty": 1.5, "frequency_penalty": 0.5, "max_tokens": 20},
    "special tokens": {"skip_special_tokens": False, "logit_bias": {"2": 100}, "max_tokens": 2},
}


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    environment = os.environ | {"TRITONLLM_WEIGHTS": str(WEIGHTS)}
    subprocess.run([sys.executable, ROOT / "tools" / "demo_model.py"], check=True, env=environment)
    endpoints = [endpoint(name) for name in ARGS]
    with server.running(
        endpoints,
        weights=WEIGHTS,
        seconds=240,
        environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
        gateway={"port": GATEWAY},
    ) as running:
        yield running


def endpoint(name: str) -> str:
    model = "model: {path: smollm2-135m-instruct}" if engines.TYPES[name].needs_weights else ""
    args = json.dumps(ARGS[name] | {"max_model_len": CONTEXT})
    return ENDPOINT.format(name=name, model=model, args=args, deadline=DEADLINE_SECONDS)


@pytest.fixture(params=ARGS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def answer(served: server.Served, name: str, text_input: str = PROMPT, **parameters: Any) -> dict[str, Any]:
    return ask.generate(served, name, text_input=text_input, sampling_parameters=json.dumps(parameters))


def running(served: server.Served, name: str) -> float:
    return ask.metric(served, metric_names.ENGINE_RUNNING, endpoint=name)


def test_every_type_that_generates_text_on_a_cpu_is_here() -> None:
    types = {each.name for each in engines.TYPES.values() if each.generates_text}
    # TensorRT-LLM needs a GPU.
    assert ARGS.keys() == types - {"tensorrtllm"}


def test_an_answer_is_the_same_whole_in_pieces_and_over_grpc(served: server.Served, name: str) -> None:
    whole = answer(served, name, **GREEDY)
    pieces = list(ask.stream(served, name, text_input=PROMPT, **GREEDY))
    messages = ask.grpc(served, name, text_input=PROMPT, stream=True, sampling_parameters=json.dumps(GREEDY))
    assert whole["text_output"]
    assert len(pieces) > 3
    assert "".join(piece["text_output"] for piece in pieces) == whole["text_output"]
    assert "".join(message["text_output"][0] for message in messages) == whole["text_output"]
    assert (whole["finish_reason"], whole["num_output_tokens"]) == ("length", 8)
    assert (pieces[-1]["finish_reason"], messages[-1]["finish_reason"]) == ("length", ["length"])
    assert whole["num_input_tokens"] == pieces[-1]["num_input_tokens"] > 5


def test_answers_of_many_at_once_are_those_of_each_alone(served: server.Served, name: str) -> None:
    prompts = [PROMPT * (1 + number % 3) + str(number) for number in range(4)]

    def text(prompt: str) -> str:
        return answer(served, name, prompt, **GREEDY)["text_output"]

    alone = [text(prompt) for prompt in prompts]
    with futures.ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(text, prompts)) == alone


def test_choices_come_side_by_side_and_a_seed_repeats_them(served: server.Served, name: str) -> None:
    wanted: dict[str, Any] = GREEDY | {"n": 2, "temperature": 1, "seed": 7}
    first, again = (answer(served, name, **wanted) for _ in range(2))
    assert first["text_output"] == again["text_output"]
    assert len(set(first["text_output"])) == 2
    assert (first["finish_reason"], first["num_output_tokens"]) == (["length"] * 2, [8, 8])


def test_a_stop_sequence_ends_the_answer_before_it(served: server.Served, name: str) -> None:
    text = answer(served, name, **GREEDY)["text_output"]
    stop = text[6:9]
    stopped = answer(served, name, stop=[stop], **GREEDY)
    assert (stopped["text_output"], stopped["finish_reason"]) == (text[: text.index(stop)], "stop")


def test_a_banned_prompt_never_reaches_the_engine(served: server.Served, name: str) -> None:
    refused = answer(served, name, "The falcon", **GREEDY)
    assert (refused["text_output"], refused["finish_reason"]) == ("", "content_filter")
    assert refused["num_output_tokens"] == 0


def test_a_client_that_leaves_frees_its_place(served: server.Served, name: str) -> None:
    events = ask.stream(served, name, text_input=PROMPT, **ENDLESS)
    assert len(list(itertools.islice(events, 2))) == 2
    server.until(lambda: running(served, name) == 1, 30)
    events.close()  # pyright: ignore[reportAttributeAccessIssue]
    # The deadline, and its own end, are later.
    server.until(lambda: running(served, name) == 0, DEADLINE_SECONDS / 2)


def test_a_request_past_its_deadline_ends_with_what_it_has(served: server.Served) -> None:
    def late(name: str) -> dict[str, Any]:
        return answer(served, name, **ENDLESS)

    began = time.monotonic()
    with futures.ThreadPoolExecutor(len(ARGS)) as pool:
        answers = dict(zip(ARGS, pool.map(late, ARGS), strict=True))
    assert time.monotonic() - began < 2 * DEADLINE_SECONDS
    for name, late_answer in answers.items():
        assert (name, late_answer["finish_reason"]) == (name, "timeout")
        assert late_answer["text_output"]
        server.until(lambda name=name: running(served, name) == 0, 10)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"temperature": -1}, "temperature"),
        ({"n": 17}, "n"),
        ({"stop": [""]}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_with_their_field(
    served: server.Served, name: str, parameters: dict[str, Any], field: str
) -> None:
    error = answer(served, name, **parameters)["error"]
    assert f"[invalid_argument] sampling_parameters.{field}" in error


def test_a_prompt_beyond_the_context_is_refused(served: server.Served, name: str) -> None:
    error = answer(served, name, "one two " * 1000)["error"]
    assert "[invalid_argument] text_input: " in error
    assert f"tokens, but the model's context is {CONTEXT}; shorten the prompt" in error


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "parameters",
    [{"logit_bias": {"999999": 1}}, {"stop_token_ids": [999999]}],
    ids=lambda given: next(iter(given)),
)
def test_token_ids_beyond_the_vocabulary_are_refused(
    served: server.Served, name: str, parameters: dict[str, Any]
) -> None:
    error = answer(served, name, **parameters)["error"]
    assert f"[invalid_argument] sampling_parameters.{next(iter(parameters))}: has token id 999999" in error


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n": 9}, "sampling_parameters.n: must be at most 8"),
        (
            {"structured_outputs": {"regex": "a"}},
            "sampling_parameters.structured_outputs: is not supported by",
        ),
    ],
    ids=str,
)
def test_what_transformers_can_not_do_is_refused_with_its_field(
    served: server.Served, parameters: dict[str, Any], said: str
) -> None:
    assert f"[invalid_argument] {said}" in answer(served, "transformers", **parameters)["error"]


def test_log_probabilities_are_the_same_of_vllm_and_transformers(served: server.Served) -> None:
    def asked(name: str) -> dict[str, Any]:
        flags = {"return_logprobs": True, "return_cumulative_logprob": True}
        given = json.dumps(GREEDY | {"logprobs": 3})
        return ask.generate(served, name, text_input=PROMPT, sampling_parameters=given, **flags)

    # vLLM compiles what computes them with the first request, which takes longer than the deadline on a busy machine.
    server.until(lambda: asked("vllm")["finish_reason"] == "length", 120)
    theirs, ours = (asked(name) for name in MODELS)
    assert ours["cumulative_logprob"] == pytest.approx(theirs["cumulative_logprob"], abs=1e-3)
    positions = [json.loads(each["logprobs"]) for each in (theirs, ours)]
    assert len(positions[0]) == GREEDY["max_tokens"]
    for vllms, transformers in zip(*positions, strict=True):
        assert vllms.keys() == transformers.keys()
        for token, expected in vllms.items():
            found = transformers[token]
            assert found["logprob"] == pytest.approx(expected["logprob"], abs=1e-3)
            assert (found["rank"], found["decoded_token"]) == (expected["rank"], expected["decoded_token"])


@pytest.mark.parametrize("asked", SAME.values(), ids=SAME)
def test_transformers_gives_the_answers_of_vllm(served: server.Served, asked: dict[str, Any]) -> None:
    theirs, ours = (answer(served, name, **GREEDY | asked) for name in MODELS)
    for each in (theirs, ours):
        each.pop("model_name")
    assert ours == theirs
    assert "error" not in ours
