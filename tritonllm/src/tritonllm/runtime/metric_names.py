"""Every metric that an endpoint exports: the list that runtime, charts, alerts and their tests share."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Family(NamedTuple):
    """One metric family; all its series carry the label `endpoint`.

    Attributes:
        name: name in Prometheus.
        kind: Triton's kind of metric.
        description: its HELP line.
        buckets: upper bounds of a histogram, in seconds.
    """

    name: str
    kind: Literal["COUNTER", "GAUGE", "HISTOGRAM"]
    description: str
    buckets: tuple[float, ...] = ()


RUNNING = "tritonllm_requests_running"
WAITING = "tritonllm_requests_waiting"
CAPACITY = "tritonllm_request_capacity"
REQUESTS = "tritonllm_requests_total"
REJECTIONS = "tritonllm_rejections_total"
INPUT_TOKENS = "tritonllm_input_tokens_total"
OUTPUT_TOKENS = "tritonllm_output_tokens_total"
ADAPTER_REQUESTS = "tritonllm_adapter_requests_total"
ADAPTER_OUTPUT_TOKENS = "tritonllm_adapter_output_tokens_total"
VERDICTS = "tritonllm_verdicts_total"
GUARDRAIL_FAILURES = "tritonllm_guardrail_failures_total"
JUDGEMENTS = "tritonllm_judgements_total"
JUDGEMENT = "tritonllm_judgement_seconds"
FIRST_TOKEN = "tritonllm_time_to_first_token_seconds"
INTER_TOKEN = "tritonllm_inter_token_seconds"
DURATION = "tritonllm_request_seconds"
ENGINE_RUNNING = "tritonllm_engine_requests_running"
ENGINE_WAITING = "tritonllm_engine_requests_waiting"
ENGINE_KV_CACHE = "tritonllm_engine_kv_cache_usage_ratio"

# Wide enough for a small model on a CPU and for a long prompt on a busy GPU.
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)

PIPELINE = (
    Family(RUNNING, "GAUGE", "Requests being answered"),
    Family(WAITING, "GAUGE", "Requests accepted and waiting for their turn"),
    Family(CAPACITY, "GAUGE", "Requests that can be answered at once"),
    Family(REQUESTS, "COUNTER", "Requests by the way they ended"),
    Family(REJECTIONS, "COUNTER", "Requests refused before any work was done, by reason"),
    Family(INPUT_TOKENS, "COUNTER", "Tokens of the prompts that the engine read"),
    Family(OUTPUT_TOKENS, "COUNTER", "Tokens that the engine generated"),
    Family(ADAPTER_REQUESTS, "COUNTER", "Requests to LoRA adapters, by adapter and the way they ended"),
    Family(ADAPTER_OUTPUT_TOKENS, "COUNTER", "Tokens that the engine generated with an adapter, by adapter"),
    Family(VERDICTS, "COUNTER", "Matches of guardrail rules, by rule, action and direction"),
    Family(GUARDRAIL_FAILURES, "COUNTER", "Failures of the guardrail itself"),
    Family(JUDGEMENTS, "COUNTER", "Windows judged by classifier rules, by rule, direction and outcome"),
    Family(
        JUDGEMENT,
        "HISTOGRAM",
        "Seconds from a classifier rule's question to its verdict",
        (*_TOKEN, 2.5, 5, 10, 30, 60),
    ),
    Family(
        FIRST_TOKEN,
        "HISTOGRAM",
        "Seconds from a request's arrival to its first text from the engine",
        _LATENCY,
    ),
    Family(INTER_TOKEN, "HISTOGRAM", "Mean seconds between the output tokens of a request", _TOKEN),
    Family(DURATION, "HISTOGRAM", "Seconds from a request's arrival to its end", _LATENCY),
)

ENGINE = (
    Family(ENGINE_RUNNING, "GAUGE", "Requests in the engine's running batch"),
    Family(ENGINE_WAITING, "GAUGE", "Requests waiting inside the engine"),
    Family(ENGINE_KV_CACHE, "GAUGE", "Share of the engine's KV cache in use, 0 to 1"),
)
