"""What is read from the cluster's objects."""

from __future__ import annotations

import pytest

import worlds
from tritonllm_operator import names, objects, pods, pools, revisions

CREATED, LATER = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"


@pytest.mark.parametrize("begun", [None, LATER], ids=["no pods yet", "new pods"])
def test_a_pool_is_as_old_as_its_newest_pods(begun: str | None) -> None:
    conditions = [{"type": "Progressing", "lastUpdateTime": begun}] if begun else []
    deployment = {
        "metadata": {"uid": "1", "creationTimestamp": CREATED},
        "spec": {"template": {"metadata": {}, "spec": {}}},
        "status": {"conditions": conditions},
    }
    assert pools.read(deployment).changed == objects.time(begun or CREATED)


def test_a_file_says_which_endpoints_are_needed_and_means_the_same_without_the_mark() -> None:
    chat, code = worlds.endpoint(worlds.resource()), worlds.endpoint(worlds.resource("code"))
    data = {
        names.key("r1"): revisions.text([chat, code], needed={"code", "chat"}),
        names.key(""): revisions.text([chat, code]),
    }
    found = pools.files({"metadata": {}, "data": data})
    assert found.needed == {"r1": {"chat", "code"}}
    assert found.revisions["r1"] == found.revisions[""]


@pytest.mark.parametrize(("status", "told"), [("True", "exceeded quota"), ("False", "")])
def test_a_deployment_tells_why_its_pods_cannot_be_created(status: str, told: str) -> None:
    condition = {"type": "ReplicaFailure", "status": status, "message": "exceeded quota"}
    deployment = {
        "metadata": {"uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {"metadata": {}, "spec": {}}},
        "status": {"conditions": [condition]},
    }
    assert pools.read(deployment).not_created == told


@pytest.mark.parametrize("reason", ["ProgressDeadlineExceeded", "ReplicaSetUpdated"])
def test_it_is_known_when_kubernetes_gave_a_roll_up(reason: str) -> None:
    condition = {"type": "Progressing", "reason": reason, "lastTransitionTime": LATER}
    deployment = {
        "metadata": {"uid": "1", "creationTimestamp": CREATED},
        "spec": {"template": {"metadata": {}, "spec": {}}},
        "status": {"conditions": [condition]},
    }
    given_up = reason == "ProgressDeadlineExceeded"
    assert pools.read(deployment).given_up == (objects.time(LATER) if given_up else None)


@pytest.mark.parametrize("status", ["True", "False"])
def test_a_pod_tells_when_a_node_took_it(status: str) -> None:
    scheduled = {"type": "PodScheduled", "status": status, "lastTransitionTime": LATER}
    found = pods.read({"metadata": {"name": "llm-1"}, "status": {"conditions": [scheduled]}})
    assert found.placed == (objects.time(LATER) if status == "True" else None)
