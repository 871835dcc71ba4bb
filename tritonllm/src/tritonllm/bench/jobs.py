"""A benchmark as a Job of Kubernetes beside a pool: its body, how far it is, and its result in the pod's log. Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tritonllm import api
from tritonllm.bench import failures, results

IMAGE = f"{api.GROUP}/benchmark-image"
"""Annotation of a pool's Deployment: the image of its benchmarks, from the chart's `benchmark.image`."""
RESOURCES = f"{api.GROUP}/benchmark-resources"
"""Annotation of a pool's Deployment: CPU and memory of its benchmarks as JSON, from the chart's `benchmark.resources`."""
POOL = f"{api.GROUP}/pool"
"""Label of what belongs to a pool."""
KEY = "default"
"""Entry of the Secret with API keys that is sent, if it is there; the chart makes it."""
CONTAINER = "benchmark"

_COMPONENT = {"app.kubernetes.io/component": "benchmark", "app.kubernetes.io/managed-by": "tritonllm"}
_INSTANCE = "app.kubernetes.io/instance"
# The result is read at once; the Job stays if that did not work.
_KEEP_SECONDS = 3600
# AIPerf's processes: its clock takes a core by itself.
_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"memory": "8Gi"}}
# https://kubernetes.io/docs/concepts/containers/images/ and the kubelet's images and container packages: none of these
# ends by waiting.
_STUCK = {
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the image cannot be pulled",
    "ErrImageNeverPull": "the image is not on the node",
    "CreateContainerConfigError": "the container cannot be created",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
}

Resource = Mapping[str, Any]


class State(NamedTuple):
    """How far a Job is.

    Attributes:
        said: for people.
        pod: name of its pod; empty while there is none.
        running: whether the benchmark runs.
        ended: whether its container has ended, so that the log is complete.
    """

    said: str
    pod: str = ""
    running: bool = False
    ended: bool = False


def image(pool: Resource, wanted: str | None) -> str:
    """The image of the benchmark.

    Args:
        pool: its Deployment.
        wanted: by the command line.

    Raises:
        failures.InvalidBenchmark: neither the command line nor the pool names one.
    """
    found = wanted or pool["metadata"].get("annotations", {}).get(IMAGE)
    if not found:
        raise failures.InvalidBenchmark(
            "--image: the pool has no `benchmark.image`; name the image that you built with images/triton-cpu/Dockerfile,"
            " target bench"
        )
    return found


def name(pool: str) -> str:
    """A new name for a Job of a pool: known before the Job is made, so that it can be deleted in any case."""
    # https://kubernetes.io/docs/concepts/workloads/controllers/job/: at most 63 characters.
    return f"{pool[:45]}-benchmark-{secrets.token_hex(3)}"


def body(
    name: str,
    pool: Resource,
    image: str,
    arguments: Sequence[str],
    deadline: int,
    api_keys: str | None = None,
) -> dict[str, Any]:
    """The Job. It goes with the pool's Deployment, and runs as its pods do, on another node if there is one.

    Args:
        name: of the Job.
        pool: its Deployment.
        image: with `tritonllm` and AIPerf.
        arguments: of `tritonllm` in the container.
        deadline: seconds after which Kubernetes ends it.
        api_keys: Secret whose entry `KEY` is sent as API key; None for that of the pool's pods.
    """
    metadata, template = pool["metadata"], pool["spec"]["template"]["spec"]
    labels = {name: value for name, value in metadata["labels"].items() if name == _INSTANCE} | _COMPONENT
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # There is no image for another architecture.
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "affinity": _apart(pool["spec"]["selector"]),
        "containers": [_container(image, arguments, api_keys or _api_keys(template), _resources(metadata))],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    spec |= {
        name: template[name]
        for name in ("imagePullSecrets", "securityContext", "serviceAccountName")
        if name in template
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                }
            ],
        },
        "spec": {
            # A second try would be another benchmark.
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": _KEEP_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def state(job: Resource, pods: Sequence[Resource], events: Sequence[Resource]) -> State:
    """How far a Job is.

    Args:
        job: as the API server has it.
        pods: of the Job.
        events: about the Job.

    Raises:
        failures.BenchmarkFailed: it cannot get to its end.
    """
    name = job["metadata"]["name"]
    for condition in job.get("status", {}).get("conditions", ()):
        if condition["type"] == "Failed" and condition["status"] == "True":
            if condition.get("reason") == "DeadlineExceeded":
                seconds = job["spec"]["activeDeadlineSeconds"]
                raise failures.BenchmarkFailed(
                    f"Job {name} was not complete within its deadline of {seconds} s"
                )
            if not pods:
                raise failures.BenchmarkFailed(f"Job {name} failed: {_told(condition)}")
    if not pods:
        refused = [event for event in events if event.get("reason") == "FailedCreate"]
        if refused:
            # A quota, or the admission of pods.
            raise failures.BenchmarkFailed(
                f"the pod of Job {name} is not admitted: {refused[-1].get('message')}"
            )
        return State("waiting for its pod")
    return _of_pod(name, pods[0])


def result(log: str) -> results.Result | None:
    """The result in the log of a pod; None if it has none."""
    for line in reversed(log.splitlines()):
        try:
            given = json.loads(line)
            return results.decoded(given)
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _of_pod(job: str, pod: Resource) -> State:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    containers = status.get("containerStatuses", ())
    now = containers[0]["state"] if containers else {}
    if (ended := now.get("terminated")) is not None:
        if ended.get("reason") == "OOMKilled":
            raise failures.BenchmarkFailed(
                f"the benchmark of Job {job} needed more memory than its limit; ask for less load, or raise the limit by"
                " `benchmark.resources` of the pool"
            )
        return State("ended", name, ended=True)
    if status.get("phase") == "Failed":
        # Evicted or preempted; the container has no state then.
        raise failures.BenchmarkFailed(f"pod {name} of the benchmark failed: {_told(status)}")
    if "running" in now:
        return State("running", name, running=True)
    waiting = now.get("waiting", {})
    if (stuck := _STUCK.get(waiting.get("reason", ""))) is not None:
        image = pod["spec"]["containers"][0]["image"]
        raise failures.BenchmarkFailed(f"{stuck} ({image}): {_told(waiting)}")
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            hint = "`benchmark.resources` of the pool says what is requested"
            return State(f"waiting for a node ({hint}): {_told(condition)}", name)
    return State("pulling the image", name)


def _told(about: Resource) -> str:
    return about.get("message") or about.get("reason") or "no reason is known"


def _apart(selector: Resource) -> dict[str, Any]:
    """On a node of the pool it would take CPU time from what it measures."""
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _api_keys(template: Resource) -> str | None:
    """The Secret with the API keys that the pool's pods mount."""
    volumes = {volume["name"]: volume for volume in template.get("volumes", ())}
    return volumes.get("api-keys", {}).get("secret", {}).get("secretName")


def _resources(metadata: Resource) -> Mapping[str, Any]:
    """CPU and memory of the Job: those that the chart has set, or the default where they are missing or not JSON."""
    try:
        return json.loads(metadata.get("annotations", {})[RESOURCES])
    except (KeyError, ValueError):
        return _RESOURCES


def _container(
    image: str, arguments: Sequence[str], api_keys: str | None, resources: Mapping[str, Any]
) -> dict[str, Any]:
    env: list[dict[str, Any]] = [{"name": "HOME", "value": "/tmp"}]
    if api_keys is not None:
        # Optional: without the entry, the server says that the key is missing.
        chosen = {"name": api_keys, "key": KEY, "optional": True}
        env.append({"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": chosen}})
    return {
        "name": CONTAINER,
        "image": image,
        "args": [*arguments],
        "env": env,
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
