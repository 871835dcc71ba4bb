"""What people read when the API server refuses a write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tritonllm_operator import plan, refusals, status
from worlds import resource, stable

# As kube-apiserver 1.35 answers.
FORBIDDEN = (
    'PATCH /apis/apps/v1/namespaces/prod/deployments/llm: deployments.apps "llm" is forbidden: User'
    ' "system:serviceaccount:operators:tritonllm-operator" cannot patch resource "deployments" in API group "apps" in'
    ' the namespace "prod"'
)
QUOTA = 'POST /apis/batch/v1/namespaces/prod/jobs: jobs.batch "a" is forbidden: exceeded quota: small'


def test_a_missing_right_is_one_sentence_with_the_command_that_grants_it() -> None:
    found = refusals.trouble(403, FORBIDDEN, "llm", "prod")
    assert found is not None
    assert found.reason == "MissingRights"
    assert found.message == (
        "the operator (system:serviceaccount:operators:tritonllm-operator) cannot patch deployments in namespace prod, a"
        " right that the chart of the pool grants; run `helm upgrade llm charts/tritonllm-pool -n prod --reset-then-reuse-values"
        " --set operator.enabled=true --set operator.namespace=operators,operator.serviceAccount=tritonllm-operator`"
    )


@pytest.mark.parametrize(("code", "text"), [(403, QUOTA), (422, "spec is invalid"), (413, "too large")])
def test_any_other_refusal_is_told_in_the_servers_words(code: int, text: str) -> None:
    found = refusals.trouble(code, text, "llm", "prod")
    assert found is not None
    assert found.reason == "ApiRefused"
    assert text in found.message


@pytest.mark.parametrize("code", [0, 404, 409, 429, 500, 503])
def test_what_another_try_may_heal_is_no_refusal(code: int) -> None:
    assert refusals.trouble(code, "whatever", "llm", "prod") is None


def test_a_refusal_is_the_reason_of_what_is_not_loaded_and_not_of_what_is() -> None:
    refused = refusals.trouble(403, FORBIDDEN, "llm", "prod")
    seen = replace(stable(resource()), refused=refused)

    def reasons(edited: bool) -> dict[str, str]:
        now = replace(seen, endpoints=[resource(phrases=["other"])]) if edited else seen
        found = status.build(now, plan.decide(now), "chat")["conditions"]
        return {item["type"]: item["reason"] for item in found}

    assert reasons(edited=True)["Loaded"] == "MissingRights"
    assert reasons(edited=False)["Loaded"] == "Loaded"
