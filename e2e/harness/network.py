"""NetworkPolicies that are enforced, and who reaches what.

Networks of clusters enforce them or not; kube-network-policies does it on any, by the packets that begin connections.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.cluster import Cluster
from harness.images import load
from harness.kubernetes import Kubernetes

_MANIFEST = Path(__file__).with_name("network.yaml")
_NAME = "kube-network-policies"
_SECONDS = 4
# All at once, because what is closed does not answer.
_SCRIPT = f"""
import concurrent.futures, json, socket, sys
def reached(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), {_SECONDS}).close()
    except OSError:
        return False
    return True
targets = sys.argv[1:]
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps([target for target, yes in zip(targets, pool.map(reached, targets)) if yes]))
"""


@contextlib.contextmanager
def enforcing(cluster: Cluster, image: str) -> Iterator[None]:
    """kube-network-policies on every node for as long as the block.

    Args:
        cluster: where.
        image: what it runs; empty where the network of the cluster itself enforces NetworkPolicies.
    """
    if not image:
        yield
        return
    text = _MANIFEST.read_text().replace("IMAGE", load(cluster, image))
    cluster.kubernetes.kubectl("apply", "--filename", "-", stdin=text)
    try:
        cluster.kubernetes.within("kube-system").kubectl(
            "rollout", "status", f"daemonset/{_NAME}", "--timeout=110s"
        )
        yield
    finally:
        cluster.kubernetes.kubectl("delete", "--filename", "-", "--wait=false", stdin=text)


def reached(kubernetes: Kubernetes, pod: str, targets: Iterable[str]) -> set[str]:
    """Where a pod with Python gets a connection.

    Args:
        kubernetes: its namespace.
        pod: who asks.
        targets: `host:port` each.

    Returns:
        Those of the targets that took the connection.
    """
    return set(json.loads(kubernetes.execute(pod, ["python", "-c", _SCRIPT, *targets])))


def deny_all(**labels: str) -> dict[str, Any]:
    """A default-deny NetworkPolicy for the pods with these labels; for all pods if there are none."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all"},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]},
    }


def allow_egress(**labels: str) -> dict[str, Any]:
    """A NetworkPolicy that lets pods of these labels ask everybody."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "allow-egress"},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Egress"], "egress": [{}]},
    }
