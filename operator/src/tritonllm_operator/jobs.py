"""Reads the Jobs that bring weights: whether they are over, and in one sentence what keeps them from it. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from tritonllm_operator import facts, names, pods
from tritonllm_operator.facts import Job, Resource, Trouble

# The controller of Jobs makes a pod within a second; a quota or an admission policy that refuses it is told in Events only.
_POD_WITHIN = datetime.timedelta(seconds=20)


def read(resource: Resource, made: Sequence[Resource], now: datetime.datetime) -> Job:
    """What matters of a Job.

    Args:
        resource: as the API server has it.
        made: its pods, those that are over among them.
        now: the time.
    """
    status = resource.get("status") or {}
    over = {item["type"]: item for item in status.get("conditions") or () if item.get("status") == "True"}
    end = over.get("Complete") or over.get("Failed")
    results: dict[str, Mapping[str, str]] = {}
    for pod in made:
        results |= facts.weights((pod.get("status") or {}).get("containerStatuses") or ())
    return Job(
        revision=resource["metadata"]["annotations"][names.REVISION],
        succeeded=None if end is None else "Complete" in over,
        finished=facts.time(end["lastTransitionTime"]) if end else None,
        weights=results,
        trouble=_ended(end, resource) if end else _waits(resource, made, now),
    )


def _waits(resource: Resource, made: Sequence[Resource], now: datetime.datetime) -> Trouble | None:
    name = resource["metadata"]["name"]
    if not made and now - facts.time(resource["metadata"]["creationTimestamp"]) > _POD_WITHIN:
        return Trouble(
            "PodNotCreated",
            f"Kubernetes cannot create a pod of Job {name}; see `kubectl describe job {name}`",
        )
    return next((trouble for pod in made if (trouble := pods.read(pod).trouble)), None)


def _ended(end: Resource, resource: Resource) -> Trouble | None:
    name = resource["metadata"]["name"]
    if end.get("reason") != "DeadlineExceeded":
        return None
    return Trouble(
        "WeightsFailed",
        f"Job {name} did not download the weights within {resource['spec']['activeDeadlineSeconds'] / 3600:g} h; what is"
        " there is kept, and the next try goes on from it",
    )
