"""A volume of a given size, as no storage class of kind makes one: memory of a node, behind a claim."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.kubernetes import Kubernetes

_BALLAST = "ballast"


class Volume:
    """A volume that is there.

    Attributes:
        claim: name of the claim that is bound to it.
    """

    def __init__(self, cluster: Cluster, node: str, directory: str, claim: str) -> None:
        self.claim = claim
        self._cluster = cluster
        self._node = node
        self._directory = directory

    def fill(self, size: int) -> None:
        """Puts a file of so many bytes there that is none of ours."""
        self._inside("fallocate", f"--length={size}", f"{self._directory}/{_BALLAST}")

    def free(self) -> None:
        """Removes that file."""
        self._inside("rm", f"{self._directory}/{_BALLAST}")

    def _inside(self, *command: str) -> None:
        self._cluster.inside(self._node, command)


@contextlib.contextmanager
def of_size(cluster: Cluster, kubernetes: Kubernetes, size: int) -> Iterator[Volume]:
    """A volume for as long as the block. Skips the test on a cluster that is not of kind.

    Args:
        cluster: whose first node has it.
        kubernetes: namespace of the claim.
        size: bytes.
    """
    if not cluster.kind:
        pytest.skip("the volume is mounted in a node, and only nodes of kind can be entered")
    node = cluster.nodes()[0]
    # Names of this kind are not of a namespace.
    name = kubernetes.namespace
    directory = f"/mnt/{name}"
    cluster.inside(node, ["mkdir", directory])
    try:
        cluster.inside(node, ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory])
        kubernetes.apply(_volume(name, node, directory, size), _claim(name, size))
        yield Volume(cluster, node, directory, name)
        # A claim in use goes when its pod has gone.
        kubernetes.kubectl("delete", "pvc", name, "--wait=false")
    finally:
        kubernetes.kubectl("delete", "pv", name, "--wait=false", "--ignore-not-found")
        cluster.inside(node, ["sh", "-c", f"umount --lazy {directory}; rmdir {directory}"])


def _volume(name: str, node: str, directory: str, size: int) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": str(size)},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "local": {"path": directory},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def _claim(name: str, size: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "volumeName": name,
            "storageClassName": "",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": str(size)}},
        },
    }
