"""Teaches an API server of the tests what an LLMEndpoint is, with what charts/tritonllm-operator installs."""

from __future__ import annotations

import httpx

import chart
from pool import until
from tritonllm import api

_PLACE = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def install(client: httpx.Client) -> None:
    """Makes the CRD, unless it is there, and waits until it is served."""
    crd = chart.one(chart.operator({}), "CustomResourceDefinition")
    answer = client.post(_PLACE, json=crd)
    assert answer.is_success or answer.status_code == 409, answer.text

    def established() -> bool:
        found = client.get(f"{_PLACE}/{crd['metadata']['name']}").json()
        return any(
            item["type"] == "Established" and item["status"] == "True"
            for item in found.get("status", {}).get("conditions") or ()
        )

    until(established)
    until(lambda: client.get(f"/apis/{api.API_VERSION}/llmendpoints").is_success)
