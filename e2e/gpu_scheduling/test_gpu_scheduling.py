"""Pods of a pool are placed by the GPUs that nodes have, and are replaced where none is left over."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from harness import commands
from harness.helm import Release
from harness.kubernetes import Kubernetes, condition, name

_GPU = "example.com/gpu"


def test_pods_go_only_where_gpus_are_and_a_full_node_is_rolled(
    release: Release, kubernetes: Kubernetes
) -> None:
    release.apply(wait=False)
    commands.until(lambda: _waiting(kubernetes, release), 60, "the pod waits for a GPU")
    node = name(kubernetes.list("nodes")[0])
    with _gpus(kubernetes, node, 1):
        kubernetes.rolled_out(release.name)
        (first,) = kubernetes.pods(release.selector)
        assert first["spec"]["nodeName"] == node

        release.apply({"podAnnotations": {"example.com/changed": "yes"}})
        (second,) = kubernetes.pods(release.selector)
        assert name(second) != name(first)

        release.apply({"podAnnotations": {"example.com/changed": "yes"}, "replicas": 2}, wait=False)
        commands.until(lambda: _waiting(kubernetes, release), 60, "the second pod waits for a GPU")
        assert kubernetes.ready(release.selector) == [name(second)]
        release.uninstall()


def _waiting(kubernetes: Kubernetes, release: Release) -> bool:
    """Whether one pod was not placed, for want of a GPU and nothing else."""
    for pod in kubernetes.pods(release.selector):
        if condition(pod, "PodScheduled") == "False":
            (why,) = [
                each["message"] for each in pod["status"]["conditions"] if each["type"] == "PodScheduled"
            ]
            return f"Insufficient {_GPU}" in why and "Insufficient memory" not in why
    return False


@contextlib.contextmanager
def _gpus(kubernetes: Kubernetes, node: str, count: int) -> Iterator[None]:
    """A node with GPUs that do not exist."""
    path = f"/status/capacity/{_GPU.replace('/', '~1')}"

    def patch(*operations: dict[str, str]) -> None:
        kubernetes.kubectl(
            "patch", "node", node, "--subresource=status", "--type=json", f"--patch={json.dumps(operations)}"
        )

    patch({"op": "add", "path": path, "value": str(count)})
    try:
        # The kubelet takes it over from there.
        commands.until(
            lambda: _GPU in kubernetes.get("node", node)["status"]["allocatable"],
            60,
            "the node offers its GPU",
        )
        yield
    finally:
        patch({"op": "remove", "path": path})
