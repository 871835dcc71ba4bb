"""What is said of a pool that the ResourceQuota of its namespace does not let grow."""

from __future__ import annotations

from typing import Any

import pytest

from harness import commands, operator, traffic, volumes
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes

_EXCEEDED = "exceeded quota: small"
_MODEL: dict[str, Any] = {
    "model": {"repo": "org/fine"},
    "guardrails": {},
    "limits": {"requestTimeoutSeconds": 30},
}


@pytest.mark.usefixtures("operating")
def test_pods_that_a_quota_refuses_are_told_by_the_endpoint_and_come_when_it_is_raised(
    release: Release, kubernetes: Kubernetes
) -> None:
    kubernetes.apply(_quota(pods="0"), operator.endpoint("chat", release.name, traffic.SPEC))
    release.apply(wait=False)
    refused = operator.until(kubernetes, "chat", "Ready", "False", reason="PodNotCreated")
    assert _EXCEEDED in refused["message"]
    kubernetes.apply(_quota(pods="2"))
    operator.until(kubernetes, "chat", "Loaded", seconds=240)


@pytest.mark.usefixtures("operating")
def test_a_job_that_a_quota_refuses_is_told_by_the_endpoint_and_made_when_it_is_raised(
    cluster: Cluster, release: Release, kubernetes: Kubernetes
) -> None:
    with volumes.of_size(cluster, kubernetes, 16_777_216) as volume:
        kubernetes.apply(operator.endpoint("chat", release.name, traffic.SPEC))
        # Only with a volume that pods share are there Jobs.
        shared = {"type": "ExistingClaim", "existingClaim": volume.claim, "accessMode": "ReadWriteMany"}
        release.apply({"allow": {"repos": ["org/*"]}, "weights": {"enabled": True, **shared}})
        operator.until(kubernetes, "chat", "Loaded")

        kubernetes.apply(_quota(**{"count/jobs.batch": "0"}), operator.endpoint("fine", release.name, _MODEL))
        refused = operator.until(kubernetes, "fine", "WeightsReady", "False", reason="ApiRefused")
        assert _EXCEEDED in refused["message"]
        assert operator.conditions(kubernetes, "chat")["Ready"]["status"] == "True"
        kubernetes.apply(_quota(**{"count/jobs.batch": "1"}))
        commands.until(lambda: kubernetes.list("jobs"), 120, "the Job is there")
        operator.until(kubernetes, "fine", "WeightsReady", "False", reason="WeightsDownloading")
        release.uninstall()


def _quota(**hard: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": hard},
    }
