"""A server that was not started, whose best configuration is known: more sequences at once make each of them slower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ruamel.yaml

from tritonllm.bench import results
from tritonllm.tuning import objectives as objective
from tritonllm.tuning import reasons, space, tuner

ENDPOINT = """\
# The one that is tuned.
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: chat}
spec:
  pool: llm
  model: {path: smollm2}
  engine:
    type: vllm
    args: {max_num_seqs: 16, max_model_len: 2048}   # as they were
  guardrails: {}
"""
BEST = {"engine.args.max_num_seqs": 64, "engine.args.max_num_batched_tokens": 4096}
"""The configuration with the most tokens of those with an inter-token latency below 20 ms."""
SPACE: dict[tuple[str, ...], tuple[Any, ...]] = {
    ("engine", "args", "max_num_seqs"): (8, 16, 32, 64, 128, 256),
    ("engine", "args", "max_num_batched_tokens"): (1024, 2048, 4096, 8192, 16384),
}
FEW: dict[tuple[str, ...], tuple[Any, ...]] = {("engine", "args", "max_num_seqs"): (8, 16, 32, 64, 128, 256)}
"""Half a dozen configurations; the best has 64 sequences."""
START: dict[tuple[str, ...], Any] = {
    ("engine", "args", "max_num_seqs"): 16,
    ("engine", "args", "max_num_batched_tokens"): None,
}
WANTED = objective.objective("output-tokens-per-second")
LIMITED, _ = objective.limits("itl-p99=20ms")


def task(values: dict[tuple[str, ...], tuple[Any, ...]] = FEW) -> tuner.Task:
    """Tuning of the endpoint."""
    axes = space.around(values, {path: START.get(path) for path in values})
    return tuner.Task(ENDPOINT, "chat", axes, WANTED, LIMITED, {"objective": WANTED.name}, seed=1)


def attempt(content: str, folder: Path) -> list[results.Result]:
    """What a configuration does."""
    args = ruamel.yaml.YAML(typ="safe").load(content)["spec"]["engine"]["args"]
    sequences, batched = args["max_num_seqs"], args.get("max_num_batched_tokens")
    if sequences > 128:
        raise reasons.Unusable(reasons.Outcome.memory, "No available memory for the cache blocks.")
    # 18 ms at 64 sequences, 26 at 128; batches that are too small or too large take longer.
    gap: float = 10 + sequences / 8 + {None: 1, 1024: 8, 2048: 3, 4096: 0, 8192: 3, 16384: 6}[batched]
    latencies: dict[str, float] = {
        "time_to_first_token": 50.0,
        "inter_token_latency": gap,
        "request_latency": gap * 128,
    }
    names: list[str] = [*results.STATISTICS]
    statistics = {name: dict.fromkeys(names, value) for name, value in latencies.items()}
    rates = {"output_token_throughput": sequences * 1000 / gap}
    return [results.Result({"concurrency": 256}, statistics, rates, 100, 0, 10.0, complete=True)]


def remembered(calls: list[str]) -> Callable[[str, Path], list[results.Result]]:
    """`attempt` that keeps what it was asked."""

    def found(content: str, folder: Path) -> list[results.Result]:
        calls.append(content)
        return attempt(content, folder)

    return found
