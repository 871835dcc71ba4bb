"""The Job that brings weights: where its pod runs, and what is told of it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

import worlds
from tritonllm_operator import bodies, facts, jobs, names

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "llm", "namespace": "prod", "uid": "uid-llm"},
    "spec": {
        "selector": {"matchLabels": {"app": "llm", names.COMPONENT: "server"}},
        "template": {
            "metadata": {
                "labels": {
                    "app": "llm",
                    names.COMPONENT: "server",
                    names.POOL: "llm",
                    "sidecar.istio.io/inject": "false",
                }
            },
            "spec": {
                "nodeSelector": {
                    "kubernetes.io/arch": "amd64",
                    "topology.kubernetes.io/zone": "a",
                    "nvidia.com/gpu.product": "H100",
                },
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "affinity": {"podAntiAffinity": {}},
                "initContainers": [{"name": "weights", "image": "tritonllm"}],
                "containers": [{"name": "server", "image": "tritonllm"}],
            },
        },
    },
}


def test_a_download_runs_where_its_image_and_volume_are_and_needs_no_gpu() -> None:
    job = bodies.sync_job(DEPLOYMENT, "r1")
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "a"}
    assert spec["tolerations"]
    assert "affinity" not in spec
    assert job["spec"]["activeDeadlineSeconds"] == 4 * 3600


def test_meshes_know_its_pod_and_the_pools_service_does_not() -> None:
    labels = bodies.sync_job(DEPLOYMENT, "r1")["spec"]["template"]["metadata"]["labels"]
    assert labels["sidecar.istio.io/inject"] == "false"
    assert labels[names.COMPONENT] == "weights"
    assert "app" not in labels


def job_of(seconds: int, pods: list[dict[str, Any]], **status: Any) -> facts.Job:
    """A Job that was created so long ago."""
    created = worlds.NOW - datetime.timedelta(seconds=seconds)
    metadata = {
        "name": "llm-sync-r1",
        "annotations": {names.REVISION: "r1"},
        "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    spec = {"activeDeadlineSeconds": 14_400}
    return jobs.read({"metadata": metadata, "spec": spec, "status": status}, pods, worlds.NOW)


def test_what_keeps_its_pod_from_running_is_told() -> None:
    unplaced = {
        "metadata": {"name": "llm-sync-r1-x"},
        "status": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available",
                }
            ]
        },
    }
    found = job_of(5, [unplaced])
    assert found.succeeded is None
    assert found.trouble is not None
    assert found.trouble.reason == "Unschedulable"
    assert "0/3 nodes are available" in found.trouble.message


@pytest.mark.parametrize(("seconds", "told"), [(5, False), (25, True)])
def test_a_pod_that_no_quota_lets_be_is_told_after_a_while(seconds: int, told: bool) -> None:
    found = job_of(seconds, []).trouble
    assert (found is not None and "kubectl describe job llm-sync-r1" in found.message) is told


def test_a_download_that_is_ended_by_its_deadline_says_so() -> None:
    ended = {
        "type": "Failed",
        "status": "True",
        "reason": "DeadlineExceeded",
        "lastTransitionTime": worlds.LONG_AGO,
    }
    found = job_of(20_000, [], conditions=[ended])
    assert found.succeeded is False
    assert found.trouble is not None
    assert "within 4 h" in found.trouble.message
