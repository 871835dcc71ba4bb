"""What a pool's owner does not permit is refused, and the version before it stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tritonllm import allow
from tritonllm_operator import facts, names, plan, pools, status
from worlds import POOL, REPO, actions, resource, stable, steps, vllm, world

CLOSED = replace(POOL, allow=allow.Allow())


def accepted(decided: plan.Plan, seen: facts.World) -> tuple[str, str]:
    found = status.build(seen, decided, "chat")["conditions"][0]
    return found["reason"], found["message"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": REPO, "engine": {"type": "vllm"}}, "spec.model.repo"),
        (
            {"model": {"path": "a", "trustRemoteCode": True}, "engine": {"type": "vllm"}},
            "spec.model.trustRemoteCode",
        ),
        ({"model": {"path": "a", "allowPickle": True}, "engine": {"type": "vllm"}}, "spec.model.allowPickle"),
        (
            {"model": {"path": "a"}, "engine": {"type": "vllm", "args": {"worker_cls": "a.B"}}},
            "spec.engine.args.worker_cls",
        ),
        (
            {"engine": {"type": "openai", "args": {"url": "https://api.example.com/v1", "model": "m"}}},
            "spec.engine.args.url",
        ),
    ],
)
def test_what_is_not_permitted_is_refused_with_its_field(spec: dict[str, Any], field: str) -> None:
    seen = world(resource(**spec), pool=CLOSED)
    decided = plan.decide(seen)
    assert actions(decided) == {"chat": "Reject"}
    reason, message = accepted(decided, seen)
    assert reason == "NotAllowed"
    assert message.startswith(f"{field}: the pool does not permit")


def test_what_is_permitted_is_accepted() -> None:
    seen = world(vllm(), pool=replace(POOL, allow=allow.Allow(repos=["org/*"])))
    assert accepted(plan.decide(seen), seen) == ("Accepted", "")


def test_a_permission_that_is_taken_back_does_not_stop_what_runs() -> None:
    before = stable(vllm(commit="0123456789" * 4))
    after = replace(before, pool=replace(before.pool or POOL, allow=allow.Allow()))
    decided = plan.decide(after)
    assert actions(decided) == {"chat": "Reject"}
    assert steps(decided) == set()
    assert status.build(after, decided, "chat")["conditions"][3]["reason"] == "ServingFormerVersion"


@pytest.mark.parametrize("text", [None, "", "{", '{"remoteCode": "true"}', '{"other": true}'])
def test_permissions_that_are_absent_or_spoilt_permit_nothing(text: str | None) -> None:
    annotations = {} if text is None else {names.ALLOW: text}
    assert pools.read(deployment(annotations)).allow == allow.Allow()


def test_permissions_are_read_from_the_annotation() -> None:
    found = pools.read(deployment({names.ALLOW: '{"pickle":true,"repos":["org/*"]}'})).allow
    assert found == allow.Allow(pickle=True, repos=["org/*"])


def deployment(annotations: dict[str, str]) -> dict[str, Any]:
    metadata = {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations}
    return {"metadata": metadata, "spec": {"template": {"metadata": {}, "spec": {}}}}
