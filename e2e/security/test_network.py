"""NetworkPolicies of a pool where the network enforces them: who reaches it, and whom it reaches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness import network, operator, pods, traffic
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes, name

_PORTS = (8000, 8001, 8002, 8003, 8080)
_SLEEP = ["sleep", "infinity"]
_SERVE = ["python", "-m", "http.server", "8000", "--directory", "/tmp"]
_OPERATOR_LABELS = {"app.kubernetes.io/name": operator.NAME}


@pytest.fixture
def neighbour(release: Release, kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pod of the namespace. Skips the test where nothing can enforce NetworkPolicies."""
    with (
        pods.running(kubernetes, "neighbour", release.image, _SLEEP) as asking,
        pods.running(kubernetes, "closed", release.image, _SERVE, ports=[8000]),
    ):
        kubernetes.apply(network.deny_all(app="closed"))
        enforced = not network.reached(kubernetes, asking, ["closed:8000"])
        kubernetes.kubectl("delete", "networkpolicy", "deny-all")
        if not enforced and not request.config.getoption("--network-policies-image"):
            pytest.skip("the network does not enforce NetworkPolicies; give --network-policies-image")
        assert enforced
        assert network.reached(kubernetes, asking, ["closed:8000"]), "nothing would ever be reached"
        yield asking


def test_in_a_namespace_that_denies_everything_a_pool_serves_and_is_closed_to_intruders(
    cluster: Cluster,
    operating: operator.Operator,
    release: Release,
    kubernetes: Kubernetes,
    neighbour: str,
) -> None:
    kubernetes.apply(network.deny_all(), network.allow_egress(app=neighbour))
    with (
        _namespace(cluster, f"{kubernetes.namespace}-monitoring") as monitoring,
        _namespace(cluster, f"{kubernetes.namespace}-elsewhere") as elsewhere,
        pods.running(monitoring, "prometheus", release.image, _SERVE),
        pods.running(elsewhere, "imposter", release.image, _SLEEP, labels=_OPERATOR_LABELS),
    ):
        release.apply(
            {
                "endpoints": [{"name": "chat", "spec": traffic.SPEC}],
                "operator": {"enabled": True, "namespace": operator.NAMESPACE},
                "weights": {"enabled": False},
                # The chart's defaults.
                "service": {},
                "networkPolicy": {"metrics": [_of(monitoring)]},
            }
        )
        # The operator asks on port 8001.
        operator.until(kubernetes, "chat", "Loaded")
        release.test()

        (pod,) = kubernetes.pods(release.selector)
        server = {port: f"{pod['status']['podIP']}:{port}" for port in _PORTS}
        own = {f"127.0.0.1:{port}" for port in _PORTS}
        assert network.reached(kubernetes, name(pod), own) == own, "it does not listen where the others ask"
        assert network.reached(kubernetes, neighbour, server.values()) == {server[8080]}
        assert network.reached(monitoring, "prometheus", server.values()) == {server[8002], server[8080]}
        assert network.reached(elsewhere, "imposter", server.values()) == set()

        outside = f"{monitoring.get('pod', 'prometheus')['status']['podIP']}:8000"
        assert network.reached(kubernetes, neighbour, [outside, "closed:8000"]) == {outside}
        assert network.reached(kubernetes, name(pod), [outside]) == set()
        release.uninstall()


@contextlib.contextmanager
def _namespace(cluster: Cluster, called: str) -> Iterator[Kubernetes]:
    cluster.kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": called}})
    try:
        yield cluster.kubernetes.within(called)
    finally:
        cluster.kubernetes.kubectl("delete", "namespace", called, "--wait=false")


def _of(kubernetes: Kubernetes) -> dict[str, Any]:
    """A peer of a NetworkPolicy: all pods of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubernetes.namespace}}}
