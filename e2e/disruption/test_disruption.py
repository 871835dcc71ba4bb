"""Nodes are drained under a pool with a PodDisruptionBudget."""

from __future__ import annotations

import concurrent.futures

from harness import commands, traffic
from harness.helm import Release
from harness.kubernetes import Kubernetes, condition

_SECONDS = 240


def test_a_drain_evicts_one_pod_at_a_time_and_fails_no_request(
    release: Release, kubernetes: Kubernetes
) -> None:
    release.apply({"endpoints": [{"name": "chat", "spec": traffic.SPEC}]})
    first = _uids(kubernetes, release)
    with (
        traffic.steady(kubernetes, release.image, "chat", service=release.name) as load,
        load.window() as window,
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        with kubernetes.cordoned():
            drain = thread.submit(_drain, kubernetes, release)
            commands.until(lambda: _unplaced(kubernetes, release) == 1, 90, "another pod waits for a node")
            commands.until(lambda: _refused(kubernetes), 90, "the budget permits no second eviction")
            assert len(first & _uids(kubernetes, release)) == 1
            assert not drain.done()
        drain.result(_SECONDS)
        kubernetes.rolled_out(release.name)
        assert not first & _uids(kubernetes, release)
    window.check()


def _drain(kubernetes: Kubernetes, release: Release) -> str:
    """Drains all nodes of this pool's pods, as every pod of a cluster would be too many for the other scenarios."""
    which = ["--selector=kubernetes.io/os=linux", f"--pod-selector={release.selector}"]
    how = ["--delete-emptydir-data", f"--timeout={_SECONDS}s"]
    return kubernetes.kubectl("drain", *which, *how, seconds=_SECONDS + 10)


def _uids(kubernetes: Kubernetes, release: Release) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kubernetes.pods(release.selector)}


def _unplaced(kubernetes: Kubernetes, release: Release) -> int:
    return sum(condition(pod, "PodScheduled") == "False" for pod in kubernetes.pods(release.selector))


def _refused(kubernetes: Kubernetes) -> bool:
    (budget,) = kubernetes.list("pdb")
    return budget["status"]["disruptionsAllowed"] == 0
