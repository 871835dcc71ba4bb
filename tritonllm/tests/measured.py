"""Results of measurements that were not made: of a server that answers so many requests at a time and no more."""

from __future__ import annotations

from typing import Any

from tritonllm.bench import results

SLOTS = 32


def result(concurrency: int | None = None, **load: Any) -> results.Result:
    """A result under a load; beyond `SLOTS` requests at a time, the others wait."""
    load = {"concurrency": concurrency, "input_tokens": 512, "max_tokens": 128} | load
    load = {name: value for name, value in load.items() if value is not None}
    streams = concurrency or load["request_rate"] * 2
    running = min(streams, SLOTS)
    gap = 10 + running / 8
    answer = 50 + gap * load["max_tokens"]
    wait = answer * (streams - running) / running
    distributions = {
        "time_to_first_token": statistics(50 + running + wait),
        "inter_token_latency": statistics(gap),
        "request_latency": statistics(answer + wait),
        "output_sequence_length": statistics(load["max_tokens"]),
        "input_sequence_length": statistics(load["input_tokens"]),
    }
    requests = running / answer * 1000
    rates = {
        "request_throughput": requests,
        "output_token_throughput": requests * load["max_tokens"],
        "total_token_throughput": requests * (load["max_tokens"] + load["input_tokens"]),
    }
    return results.Result(load, distributions, rates, 100, 0, 10.0, complete=True)


def statistics(middle: float) -> dict[str, float]:
    """Statistics around a median."""
    factors = {"avg": 1.05, "min": 0.8, "max": 1.6, "p50": 1.0, "p90": 1.25, "p99": 1.5}
    return {name: middle * factor for name, factor in factors.items()}
