"""What people write: search spaces, objectives, and configurations as files."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import measured
import tuned
from tritonllm import files
from tritonllm.bench import failures, results
from tritonllm.tuning import candidates, objectives, reasons, space, trials

SEQS = ("engine", "args", "max_num_seqs")


def endpoint(text: str = tuned.ENDPOINT) -> Any:
    (found,), _ = files.parse(text, "chat.yaml")
    return found


def test_a_space_has_the_shape_of_an_endpoint() -> None:
    data = {"engine": {"args": {"max_num_seqs": "8:64", "quantization": [None, "fp8"]}}, "limits": {"maxConcurrentRequests": [64]}}  # fmt: skip
    assert space.parse(data, "space.yaml") == {
        SEQS: (8, 16, 32, 64),
        ("engine", "args", "quantization"): (None, "fp8"),
        ("limits", "maxConcurrentRequests"): (64,),
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "is empty"),
        ({}, "is empty"),
        ([], "is empty"),
        ({"engine": {"args": {}}}, "has no field to tune"),
        ({"engine": {"args": {"max_num_seqs": 8}}}, "engine.args.max_num_seqs: is not a list"),
        ({"engine": {"args": {"max_num_seqs": []}}}, "is not a list of values or a range"),
        ({"engine": {"args": {"max_num_seqs": "8-64"}}}, "`8-64` is not a number or a range"),
        ({"engine": {"args": {"max_num_seqs": [[8]]}}}, "values are numbers, texts"),
        ({"engine": {"type": ["vllm", "simulated"]}}, "engine.type: only fields of engine.args and limits"),
        ({"max_num_seqs": [8]}, "max_num_seqs: only fields of engine.args and limits"),
    ],
)
def test_what_is_no_space_is_refused(data: Any, said: str) -> None:
    with pytest.raises(failures.InvalidBenchmark, match=r"^space\.yaml: ") as error:
        space.parse(data, "space.yaml")
    assert said in str(error.value)


def test_the_start_configuration_is_always_in_the_space() -> None:
    (axis,) = space.around({SEQS: (8, 64, 8)}, {SEQS: 16})
    assert (axis.values, axis.ordered) == ((8, 16, 64), True)
    (axis,) = space.around({SEQS: (8, 64)}, {SEQS: None})
    assert (axis.values, axis.ordered) == ((None, 8, 64), False)
    (axis,) = space.around({SEQS: (True, False, 1)}, {SEQS: True})
    assert axis.values == (True, False, 1)


def test_a_space_of_the_start_configuration_only_is_refused() -> None:
    with pytest.raises(failures.InvalidBenchmark, match="start configuration only"):
        space.around({SEQS: (16,)}, {SEQS: 16})


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_every_value_of_the_default_space_is_one_that_the_engine_takes(gpus: int) -> None:
    for path, values in space.default(endpoint(), gpus).items():
        for value in values:
            text = candidates.text(tuned.ENDPOINT, "chat", {path: value})
            assert files.parse(text, "chat.yaml")[1] == []
    assert (("engine", "args", "tensor_parallel_size") in space.default(endpoint(), gpus)) is (gpus > 1)


def test_a_configuration_changes_one_endpoint_and_keeps_what_else_is_written() -> None:
    other = tuned.ENDPOINT.replace("chat", "code")
    text = candidates.text(f"{tuned.ENDPOINT}---\n{other}", "code", {SEQS: 64, ("limits", "maxConcurrentRequests"): 64})  # fmt: skip
    found, problems = files.parse(text, "both.yaml")
    assert problems == []
    assert [each.spec.engine.args["max_num_seqs"] for each in found] == [16, 64]
    assert [each.spec.limits.max_concurrent_requests for each in found] == [256, 64]
    assert text.count("# as they were") == 2


def test_a_default_is_set_by_leaving_the_field_out() -> None:
    text = candidates.text(tuned.ENDPOINT, "chat", {SEQS: None})
    assert endpoint(text).spec.engine.args == {"max_model_len": 2048}


def test_values_that_are_not_written_are_the_defaults() -> None:
    found = endpoint()
    names = ("max_num_seqs", "tensor_parallel_size", "block_size", "nonsense")
    values = [candidates.current(found, ("engine", "args", name), "0.32.0") for name in names]
    assert values == [16, 1, None, None]
    defaults = [candidates.default(found.spec.engine, ("engine", "args", name), "0.32.0") for name in names]
    assert defaults == [256, 1, None, None]
    assert candidates.current(found, ("limits", "maxConcurrentRequests"), None) == 256


def test_objectives_are_metrics_and_limits() -> None:
    assert objectives.objective("goodput").maximized
    assert not objectives.objective("ttft-p99").maximized
    limits, rest = objectives.limits("ttft-p99=0.5s, itl=50ms")
    assert [str(limit) for limit in limits] == ["ttft-p99 500 ms"]
    assert rest == "itl=50ms"


@pytest.mark.parametrize("text", ["speed", "", "ttft", "ttft-p95", "output"])
def test_what_is_no_objective_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(failures.InvalidBenchmark, match="output-tokens-per-second"):
        objectives.objective(text)


@pytest.mark.parametrize("text", ["ttft-p99", "ttft-p99=5", "ttft-p95=5ms", "speed-p99=5ms", "ttft-p99=0ms"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(failures.InvalidBenchmark, match="is not an objective"):
        objectives.limits(text)


def test_a_failed_request_breaks_the_objectives() -> None:
    error = results.Errors("429 queue_full", 3, "the queue is full")
    result = dataclasses.replace(measured.result(32), failed=3, errors=(error,))
    found = objectives.judge(result, tuned.WANTED, ())
    assert found.violation > 0
    assert found.broken == "3 requests failed (3 x 429 queue_full)"


def test_of_several_loads_the_best_that_keeps_the_limits_counts() -> None:
    limited, _ = objectives.limits("ttft-p99=150ms")
    found = [measured.result(2**n) for n in range(4, 8)]
    trial = trials.measured(0, {}, found, tuned.WANTED, limited)
    assert trial.feasible
    assert trial.result is not None
    assert trial.result.load["concurrency"] == 32
    trial = trials.measured(0, {}, found[2:], tuned.WANTED, limited)
    assert (trial.outcome, trial.result) == (reasons.Outcome.slo, found[2])


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("chat: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", reasons.Outcome.memory),
        ("ValueError: No available memory for the cache blocks.", reasons.Outcome.memory),
        ("the weights need 130.0 GiB on each GPU, and gpu_memory_utilization 0.9 of 80.0", reasons.Outcome.memory),
        ("no tritonserver was found; install nvidia-pytriton", reasons.Outcome.start),
        ("chat: block_size 64 is not supported by this attention backend", reasons.Outcome.start),
    ],
)  # fmt: skip
def test_why_a_server_did_not_start(said: str, outcome: reasons.Outcome) -> None:
    assert reasons.of_start(said) is outcome


def test_a_reason_is_the_last_problem_that_a_server_told() -> None:
    lines = "\n    tritonserver logs to /tmp/x\n    problem: chat-engine could not be loaded: no\n    problem: no endpoint could be loaded, so there is nothing to serve:\n        chat-engine: RuntimeError: CUDA out of memory"
    assert reasons.in_short(lines) == "chat-engine: RuntimeError: CUDA out of memory"
    assert reasons.in_short("tritonllm: port 8000 is taken\n") == "port 8000 is taken"
    assert reasons.in_short("Traceback\n  ImportError: no\n") == "Traceback ImportError: no"
