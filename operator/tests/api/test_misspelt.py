"""A misspelling never weakens a policy, whatever the client asks of the API server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import asking
from tritonllm import files

POLICY: dict[str, Any] = {
    "failurePolicy": "Closed",
    "input": [
        {"name": "secrets", "action": "Block", "banned": {"phrases": ["falcon"], "match": "Substring"}},
        {"name": "list", "action": "Block", "banned": {"configMapRef": {"name": "words", "key": "all"}}},
        {"name": "cards", "action": "Mask", "pattern": {"regex": "[0-9]{16}"}, "replacement": "[CARD]"},
    ],
    "output": [{"name": "language", "action": "Mask", "profanity": {"allow": ["god"]}}],
}


def misspelt(part: Any, path: str = "guardrails") -> Iterator[tuple[str, Any]]:
    """The policy with one key misspelt, for each key of it."""
    if isinstance(part, list):
        for index, item in enumerate(part):
            for where, changed in misspelt(item, f"{path}[{index}]"):
                yield where, [*part[:index], changed, *part[index + 1 :]]
    elif isinstance(part, dict):
        for key, value in part.items():
            others = {name: held for name, held in part.items() if name != key}
            yield f"{path}.{key}", others | {f"{key[1:]}{key[0]}": copy.deepcopy(value)}
            for where, changed in misspelt(value, f"{path}.{key}"):
                yield where, {**part, key: changed}


MISSPELT = list(misspelt(POLICY))


def test_the_policy_is_taken_as_long_as_nothing_is_misspelt(guarded: httpx.Client) -> None:
    assert asking.create(guarded, {"guardrails": POLICY}).is_success
    assert len(MISSPELT) == 23


@pytest.mark.parametrize(("where", "policy"), MISSPELT, ids=[where for where, _ in MISSPELT])
@pytest.mark.parametrize("validation", ["Ignore", "Warn", "Strict"])
def test_a_misspelt_key_is_refused(
    guarded: httpx.Client, where: str, policy: dict[str, Any], validation: str
) -> None:
    answer = asking.create(guarded, {"guardrails": policy}, validation=validation)
    # What the schema itself knows to be unknown is a bad request, where the client asks for that.
    assert answer.status_code == 422 or (answer.status_code, validation) == (400, "Strict"), where
    assert "guardrails" in answer.json()["message"]


@pytest.mark.parametrize(("where", "policy"), MISSPELT, ids=[where for where, _ in MISSPELT])
def test_what_is_taken_without_the_admission_policy_is_refused_by_the_operator(
    bare: httpx.Client, where: str, policy: dict[str, Any]
) -> None:
    answer = asking.create(bare, {"guardrails": policy})
    if answer.is_success:
        endpoint, problems = files.resource(answer.json())
        assert endpoint is None
        assert any("unknown field" in message for _, message in problems), problems


def test_guardrails_that_are_misspelt_as_a_whole_are_refused(bare: httpx.Client) -> None:
    answer = asking.create(bare, {"guardrails": asking.MISSING, "guardrail": POLICY})
    assert answer.status_code == 422
    assert "spec.guardrails: Required value" in answer.json()["message"]


def test_rules_with_nothing_below_them_are_refused_by_both(guarded: httpx.Client, bare: httpx.Client) -> None:
    spec = {"guardrails": {"input": None}}
    assert "spec.guardrails.input is empty" in asking.create(guarded, spec).json()["message"]
    kept = asking.create(bare, spec)
    assert kept.is_success
    assert files.resource(kept.json())[0] is None


def test_the_refusal_names_the_key_or_the_rule_and_what_is_known(guarded: httpx.Client) -> None:
    def said(policy: dict[str, Any]) -> str:
        return asking.create(guarded, {"guardrails": policy}).json()["message"]

    assert (
        "spec.guardrails: unknown field `inputs`; known fields: failurePolicy, refusal, input, output"
        in said({"inputs": []})
    )
    rule = {"name": "a", "action": "Mask", "banned": {"phrases": ["x"], "mtach": "Word"}}
    assert "spec.guardrails, rule a.banned: unknown field; known fields: phrases, configMapRef" in said(
        {"input": [{"name": "b", "action": "Mask", "profanity": {}}], "output": [rule]}
    )
    assert "spec.guardrails, rule c: unknown field" in said(
        {"input": [{"name": "c", "action": "Mask", "profanity": {}, "replace": "x"}]}
    )


def test_an_update_is_judged_like_a_creation(guarded: httpx.Client) -> None:
    asking.create(guarded, {}, "changed", dry=False).raise_for_status()
    place = f"{asking.PLACE.format('default')}/changed"
    headers = {"Content-Type": "application/merge-patch+json"}
    patch = {"spec": {"guardrails": {"ouput": []}}}
    answer = guarded.patch(place, json=patch, headers=headers, params={"fieldValidation": "Ignore"})
    assert answer.status_code == 422
    assert "unknown field `ouput`" in answer.json()["message"]


def test_outside_the_policy_an_unknown_field_is_told_to_clients_that_ask(guarded: httpx.Client) -> None:
    spec = {"limits": {"maxQueued": 1}}
    strict = asking.create(guarded, spec, validation="Strict")
    assert strict.status_code == 400
    assert 'unknown field "spec.limits.maxQueued"' in strict.json()["message"]
    assert "unknown field" in asking.create(guarded, spec, validation="Warn").headers["Warning"]
