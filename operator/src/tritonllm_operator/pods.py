"""Reads pods: what they run, and in one sentence what keeps them from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tritonllm_operator import facts, names, objects
from tritonllm_operator.facts import Trouble
from tritonllm_operator.objects import Resource

SERVER, WEIGHTS = "server", "weights"

# https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff and the kubelet's own list of reasons.
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_LONGEST = 500


def read(pod: Resource) -> facts.Pod:
    """What matters of a pod of a pool."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = objects.annotations(pod)
    inits = status.get("initContainerStatuses") or ()
    servers = status.get("containerStatuses") or ()
    server = next((item for item in servers if item["name"] == SERVER), {})
    conditions = objects.conditions(pod)
    scheduled = conditions.get("PodScheduled", {})
    told = results(inits)
    return facts.Pod(
        name=metadata["name"],
        revision=annotations.get(names.REVISION, ""),
        static=names.STATIC in annotations,
        address=status.get("podIP", ""),
        placed=objects.since(scheduled) if scheduled.get("status") == "True" else None,
        running="running" in (server.get("state") or {}),
        started=bool(server.get("started")),
        ready=conditions.get("Ready", {}).get("status") == "True",
        weights=told,
        trouble=_trouble(metadata["name"], conditions, [*inits, *servers], told),
    )


def ending(pod: Resource) -> bool:
    """Whether a pod is on its way out, or over."""
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return over or "deletionTimestamp" in pod["metadata"]


def serves(pod: Resource) -> bool:
    """Whether a pod of a pool is one that serves, and not one that only brings weights."""
    return objects.labels(pod).get(names.COMPONENT) == SERVER


def made_by(deployment: str, replica_sets: Iterable[Resource], found: Iterable[Resource]) -> list[Resource]:
    """Those pods that the Deployment of a uid has made, by the uids of their controllers. Anybody can set labels."""
    own = {item["metadata"]["uid"] for item in replica_sets if objects.controller(item) == deployment}
    return [pod for pod in found if objects.controller(pod) in own]


def results(statuses: Sequence[Resource]) -> dict[str, Mapping[str, str]]:
    """What a container `weights` told when it ended: `tritonllm.weights.report.message` says how."""
    found: dict[str, Mapping[str, str]] = {}
    for status in statuses:
        if status["name"] != WEIGHTS:
            continue
        for where in ("lastState", "state"):
            ended = (status.get(where) or {}).get("terminated")
            if not ended:
                continue
            try:
                told = json.loads(ended.get("message") or "")
                found |= {name: dict(entry) for name, entry in told["endpoints"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                told = {}
            # About the command as a whole: it holds for every endpoint that has no result of its own.
            if isinstance(told, dict) and "reason" in told:
                found[""] = {"reason": str(told["reason"]), "message": str(told.get("message", ""))}
            elif ended.get("exitCode") == 0:
                found.pop("", None)
    return found


def _trouble(
    pod: str,
    conditions: Mapping[str, Resource],
    containers: Iterable[Resource],
    weights: Mapping[str, Mapping[str, str]],
) -> Trouble | None:
    """What keeps a pod from running, with the statuses of its containers in the order in which they start."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Trouble(
            "Unschedulable",
            f"no node takes pod {pod}: {_short(scheduled.get('message', ''))}; free or add such a node, or change"
            " the pool's gpu, resources, nodeSelector or tolerations",
        )
    for container in containers:
        if found := _container(pod, container, weights):
            return found
    return None


def _container(pod: str, container: Resource, weights: Mapping[str, Mapping[str, str]]) -> Trouble | None:
    name = container["name"]
    state: Mapping[str, Any] = container.get("state") or {}
    waiting: Mapping[str, Any] = state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), _short(waiting.get("message", ""))
    if reason in _NO_IMAGE:
        return Trouble(
            "ImagePull",
            f"the image {container.get('image', '')} of pod {pod} can't be had: {message or reason}; check the pool's"
            " image.repository, image.tag and image.pullSecrets",
        )
    if reason in _NO_CONTAINER:
        return Trouble(
            "ContainerNotCreated", f"container {name} of pod {pod} can't be made: {message or reason}"
        )
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    running = "running" in state and (name == WEIGHTS or container.get("started"))
    if not ended or ended.get("exitCode") == 0 or running:
        return None
    if name == WEIGHTS:
        return _weights(pod, weights)
    if ended.get("reason") == "OOMKilled":
        return Trouble(
            "OutOfMemory",
            f"container {name} of pod {pod} took more memory than its limit and was ended; raise the pool's"
            " resources.limits.memory, or let the engine use less",
        )
    said = _last_lines(ended.get("message", ""))
    return Trouble(
        "ContainerFailed",
        f"container {name} of pod {pod} ended with code {ended.get('exitCode')}"
        + (f": {said}" if said else f"; see `kubectl logs {pod} -c {name} --previous`"),
    )


def _weights(pod: str, weights: Mapping[str, Mapping[str, str]]) -> Trouble:
    for endpoint, told in sorted(weights.items()):
        if "reason" in told:
            where = f"{endpoint}: " if endpoint else ""
            return Trouble(told["reason"], where + told.get("message", ""))
    return Trouble(
        "WeightsFailed",
        f"the download of pod {pod} ended without a word; see `kubectl logs {pod} -c {WEIGHTS}`",
    )


def _last_lines(text: str) -> str:
    """The end of what a container wrote, where its reason is."""
    lines: Sequence[str] = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return _short(" ".join(lines[-2:]))


def _short(text: str) -> str:
    flat = " ".join(text.split()).rstrip(".")
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"
