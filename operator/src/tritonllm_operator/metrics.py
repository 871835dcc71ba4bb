"""What the operator tells Prometheus of itself."""

from __future__ import annotations

import prometheus_client

PASSES = prometheus_client.Counter(
    "tritonllm_operator_passes", "Looks at a pool, by how they ended.", ["outcome"]
)
PASS_SECONDS = prometheus_client.Histogram("tritonllm_operator_pass_seconds", "Time of a look at a pool.")
LAST_PASS = prometheus_client.Gauge(
    "tritonllm_operator_last_pass_timestamp_seconds",
    "When the last look at any pool ended, in seconds since the epoch.",
)
REQUESTS = prometheus_client.Counter(
    "tritonllm_operator_api_requests", "Requests to the API server.", ["method"]
)
STEPS = prometheus_client.Counter(
    "tritonllm_operator_model_changes", "Loads and unloads on pods, by how they ended.", ["step", "outcome"]
)
ENDPOINTS = prometheus_client.Gauge(
    "tritonllm_operator_endpoints",
    "Endpoints of a pool, by whether they are Ready.",
    ["namespace", "pool", "ready"],
)
