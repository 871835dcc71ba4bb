"""Requests that schemathesis makes from the gateway's OpenAPI document, valid and not: what it answers is as described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
import schemathesis.openapi
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from integration import server
from tritonllm.gateway import openapi

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: chat}
spec:
  pool: test
  engine: {type: simulated}
  guardrails:
    input: [{name: secrets, banned: {phrases: [swordfish]}, action: Block}]
    output: [{name: birds, banned: {phrases: [falcon]}, action: Mask}]
"""
EXAMPLES = 40
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
]


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    with server.running([ENDPOINT], gateway={}) as running:
        yield running


@pytest.fixture(scope="module")
def document(served: server.Served) -> Any:
    return schemathesis.openapi.from_url(f"{served.gateway}/openapi.json")


# Requests without a body have little that can be invalid.
CASES = [
    (path, mode)
    for path, operations in openapi.document()["paths"].items()
    for mode in schemathesis.GenerationMode
    if "post" in operations or mode is schemathesis.GenerationMode.POSITIVE
]


@pytest.mark.parametrize(("path", "mode"), CASES)
def test_answers_are_as_described(document: Any, path: str, mode: schemathesis.GenerationMode) -> None:
    [operation] = document[path].values()

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
    )
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "chat"
        case.call_and_validate(checks=CHECKS)

    ask()
