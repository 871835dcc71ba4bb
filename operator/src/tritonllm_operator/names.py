"""What things in the cluster are called, so that chart, pods and operator mean the same ones."""

from __future__ import annotations

from tritonllm import api

FIELD_MANAGER = "tritonllm-operator"

POOL = f"{api.GROUP}/pool"
"""Label of everything that belongs to a pool; its value is the pool's name."""
# Of the container that serves.
GATEWAY_PORT = "openai"
COMPONENT = "app.kubernetes.io/component"
PHRASES = "phrases"
"""Component of a ConfigMap with lists of phrases, whose owner so lets endpoints name it."""
MANAGED_BY = "app.kubernetes.io/managed-by"
VERSION = "app.kubernetes.io/version"

# Annotations of a pool's Deployment, written by charts/tritonllm-pool.
RUNTIME = f"{api.GROUP}/runtime"
OPERATOR = f"{api.GROUP}/operator"
API_SECRET = f"{api.GROUP}/api-secret"
API_SECRET_KEY = f"{api.GROUP}/api-secret-key"
DRAIN_SECONDS = f"{api.GROUP}/drain-seconds"
ALLOW = f"{api.GROUP}/allow"
GPUS = f"{api.GROUP}/gpus"
WEIGHTS = f"{api.GROUP}/weights"
IMAGES = f"{api.GROUP}/images"
BRINGS = f"{api.GROUP}/brings"
"""Names of the endpoints that come with it."""
BENCHMARKS = f"{api.GROUP}/benchmarks"
BENCHMARK_TOKENIZER = f"{api.GROUP}/benchmark-tokenizer"

# On the template of pods that boot from their chart's own endpoints.
STATIC = f"{api.GROUP}/endpoints-checksum"

# Written by the operator: on the template of a pool's pods, and on its ConfigMap.
REVISION = f"{api.GROUP}/revision"
GOOD = f"{api.GROUP}/good-revision"
FAILED = f"{api.GROUP}/failed-revision"
BECAUSE = f"{api.GROUP}/failed-because"
MARKS = (GOOD, FAILED, BECAUSE)
"""Those of the ConfigMap: how the last roll went."""

# Written by the operator on the Job of a benchmark: whose it is, and `benchmarks.digest`.
BENCHMARK_OF = f"{api.GROUP}/endpoint"
BENCHMARK_HASH = f"{api.GROUP}/benchmark-hash"

# Written by users on an endpoint.
PLAN_ONLY = f"{api.GROUP}/plan-only"
RESOLVE = f"{api.GROUP}/resolve"
"""A value that it did not have before makes the operator resolve `spec.model.revision` again."""

_KEY = "revision-{}.yaml"


def config_map(pool: str) -> str:
    """The ConfigMap that the pool's pods boot from."""
    return f"{pool}-endpoints"


def key(revision: str) -> str:
    """The ConfigMap's key for the pods of a revision; the first revision is the empty text."""
    return _KEY.format(revision)


def revision(key: str) -> str | None:
    """The revision that a key of the ConfigMap is for; None where it is not one of ours."""
    before, after = _KEY.split("{}")
    if not (key.startswith(before) and key.endswith(after)):
        return None
    return key[len(before) : -len(after)]


def sync_job(pool: str, revision: str) -> str:
    """The Job that brings the weights of a revision before its pods start, or adapters while they run."""
    return f"{pool}-sync-{revision or 'first'}"


def benchmark_job(pool: str) -> str:
    """The Job that benchmarks an endpoint of the pool. One name, so that there are never two."""
    return f"{pool}-benchmark"
