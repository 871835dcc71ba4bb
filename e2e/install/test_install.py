"""A pool without an operator, from its installation to its removal."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import ruamel.yaml

from harness import commands, pods, traffic
from harness.helm import Release
from harness.kubernetes import Kubernetes, name

_VALUES: dict[str, Any] = ruamel.yaml.YAML(typ="safe").load(Path(__file__).with_name("values.yaml"))
_CHAT: dict[str, Any] = _VALUES["endpoints"][0]
_BROKEN: dict[str, Any] = {
    "name": "broken",
    "spec": {
        "engine": {"type": "simulated", "args": {"fail_to_load": "no such weights"}},
        "guardrails": {},
        "limits": {"requestTimeoutSeconds": 30},
    },
}
_CLAIM: dict[str, Any] = {
    "weights": {"enabled": True, "size": "100Mi"},
    "rollout": {"maxSurge": 0, "maxUnavailable": 1},
}
# Kubernetes itself puts these into every namespace.
_ALWAYS = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}


def test_an_upgrade_replaces_pods_only_for_a_change_and_fails_no_request(
    release: Release, kubernetes: Kubernetes
) -> None:
    release.apply()
    release.test()
    first = _pods(kubernetes, release)
    release.apply()
    assert _pods(kubernetes, release) == first, "an upgrade that changes nothing replaced pods"

    changed = copy.deepcopy(_CHAT)
    changed["spec"]["limits"]["maxConcurrentRequests"] = 17
    with (
        traffic.steady(kubernetes, release.image, "chat", service=release.name) as load,
        load.window() as window,
    ):
        release.apply({"endpoints": [changed]})
        commands.until(lambda: not first & _pods(kubernetes, release), 90, "the pods of before are gone")
    window.check()
    with pods.running(kubernetes, "neighbour", release.image, ["sleep", "infinity"]):
        metrics = pods.fetch(kubernetes, "neighbour", f"http://{release.name}:8002/metrics")
    assert 'tritonllm_request_capacity{endpoint="chat"} 17' in metrics


def test_a_broken_endpoint_leaves_the_others_served_and_a_removed_pool_leaves_its_claim(
    release: Release, kubernetes: Kubernetes
) -> None:
    release.apply({**_CLAIM, "endpoints": [_BROKEN, _CHAT]})
    (pod,) = kubernetes.pods(release.selector)
    with pods.running(kubernetes, "neighbour", release.image, ["sleep", "infinity"]):
        ask = ["tritonllm", "generate", "chat", "so tango", "--url", f"http://{release.name}:8000"]
        assert kubernetes.execute("neighbour", ask).strip() == "so [REDACTED]"
    # Only the kubelet and the pod itself reach this port.
    readiness = pods.fetch(kubernetes, name(pod), "http://127.0.0.1:8003/readyz")
    assert "broken-engine" in readiness
    assert "no such weights" in readiness

    release.uninstall()
    commands.until(lambda: not _pods(kubernetes, release), 90, "its pods are gone")
    kinds = (
        "deployments,replicasets,services,secrets,configmaps,serviceaccounts,persistentvolumeclaims,hpa,pdb"
    )
    left = {(each["kind"], name(each)) for each in kubernetes.list(kinds)} - _ALWAYS
    assert left == {("PersistentVolumeClaim", f"{release.name}-weights")}


def _pods(kubernetes: Kubernetes, release: Release) -> set[str]:
    """All of them, also those on their way out."""
    return {pod["metadata"]["uid"] for pod in kubernetes.list("pods", release.selector)}
