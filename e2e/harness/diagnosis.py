"""What somebody wants to see when a scenario failed: events, pods, and what their containers printed."""

from __future__ import annotations

from collections.abc import Iterator

from harness import commands
from harness.kubernetes import Kubernetes, name

_LINES = 80


def story(kubernetes: Kubernetes) -> str:
    """All of it for one namespace; what can't be had is said and left out."""
    return "\n".join(_parts(kubernetes))


def _parts(kubernetes: Kubernetes) -> Iterator[str]:
    yield f"--- events of {kubernetes.namespace}"
    yield _try(kubernetes, "get", "events", "--sort-by=.lastTimestamp")
    yield "--- objects"
    yield _try(kubernetes, "get", "deployments,replicasets,pods,services,pvc,hpa,jobs", "--output", "wide")
    yield "--- pods of the cluster itself"
    yield _try(kubernetes.within("kube-system"), "get", "pods", "--output", "wide")
    yield "--- pods"
    yield _try(kubernetes, "describe", "pods")
    try:
        pods = kubernetes.list("pods")
    except commands.Failed:
        # What was tried before has said why.
        return
    for pod in pods:
        for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
            for previous in ((), ("--previous",)):
                which = ("logs", name(pod), "--container", container["name"], *previous)
                printed = _try(kubernetes, *which, f"--tail={_LINES}")
                if not previous or "previous terminated container" not in printed:
                    yield f"--- {' '.join(which)}\n{printed}"


def _try(kubernetes: Kubernetes, *arguments: str) -> str:
    try:
        return kubernetes.kubectl(*arguments, seconds=30)
    except commands.Failed as error:
        return str(error)
