"""Asks an API server of the tests whether it would take an endpoint, and the models whether they would."""

from __future__ import annotations

from typing import Any

import httpx

from tritonllm import api, engines, files

PLACE = f"/apis/{api.API_VERSION}/namespaces/{{}}/llmendpoints"

Spec = dict[str, Any]


def resource(spec: Spec, name: str = "chat") -> dict[str, Any]:
    """An endpoint; what its spec needs and does not say is added."""
    minimal: Spec = {"pool": "llm", "guardrails": {}}
    engine = engines.TYPES.get((spec.get("engine") or {}).get("type", "vllm"))
    if engine is None or engine.needs_weights:
        minimal["model"] = {"repo": "org/name"}
    whole = {key: value for key, value in (minimal | spec).items() if value is not MISSING}
    return {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": whole}


MISSING = object()
"""The value of a field that is to be left out."""


def create(
    client: httpx.Client, spec: Spec, name: str = "chat", validation: str = "Ignore", dry: bool = True
) -> httpx.Response:
    """Creates an endpoint, by default only as a question.

    Args:
        client: the connection.
        spec: see `resource`.
        name: of the endpoint.
        validation: `fieldValidation`; kubectl sends Strict, and others nothing, which is Warn.
        dry: keep nothing.
    """
    query = {"fieldValidation": validation} | ({"dryRun": "All"} if dry else {})
    return client.post(PLACE.format("default"), json=resource(spec, name), params=query)


def problems(spec: Spec, name: str = "chat") -> list[tuple[str, str]]:
    """What the models say is wrong."""
    return files.resource(resource(spec, name), deep=False)[1]
