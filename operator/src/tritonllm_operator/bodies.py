"""The objects that the operator writes, as the API server takes them. Pure."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

from tritonllm import api
from tritonllm.bench import jobs
from tritonllm_operator import benchmarks, events, names, objects, pods
from tritonllm_operator.objects import Resource
from tritonllm_operator.pools import Pool

# A finished Job stays for people to look at, and for its result to be read.
_KEEP_SECONDS = 3600
_TRIES = 2
# The largest open weights, some 700 GB, at 50 MB/s.
_DEADLINE_SECONDS = 4 * 3600
# The same as `tritonllm bench --pool` has by default.
_BENCHMARK_SECONDS = 3600
# Where an image runs and a volume can be mounted. What else a node selector says is about GPUs.
_PLACES = (
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
)


def config_map(deployment: Resource, data: Mapping[str, str], annotations: Mapping[str, str]) -> Resource:
    """What the pool's pods boot from. It goes with the pool's Deployment."""
    pool = deployment["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.config_map(pool),
            "namespace": deployment["metadata"]["namespace"],
            "labels": {names.POOL: pool, names.MANAGED_BY: names.FIELD_MANAGER},
            "annotations": dict(annotations),
            "ownerReferences": [_owner(deployment)],
        },
        "data": dict(data),
    }


def strays(written: Resource, wanted: Resource) -> Resource | None:
    """The patch that removes what others have put where only the operator's own belongs.

    Args:
        written: the ConfigMap as it is after the operator's apply, which leaves the fields of others.
        wanted: as it was applied.

    Returns:
        None where there is nothing.
    """
    revisions = {key for key in written.get("data") or {} if names.revision(key) is not None}
    data = dict.fromkeys(revisions - wanted["data"].keys())
    marks = {key for key in objects.annotations(written) if key in names.MARKS}
    annotations = dict.fromkeys(marks - wanted["metadata"]["annotations"].keys())
    return {"data": data, "metadata": {"annotations": annotations}} if data or annotations else None


def revision(deployment: Resource, revision: str) -> Resource:
    """The one field of the pool's Deployment that is the operator's. Changing it rolls the pods.

    The first revision has no annotation: on the way back to it, the template is again the one that its pods have.
    """
    annotations = {names.REVISION: revision} if revision else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        # With its uid it can't come into being again by this, if it was deleted meanwhile.
        "metadata": {key: deployment["metadata"][key] for key in ("name", "namespace", "uid")},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    }


def sync_job(deployment: Resource, revision: str) -> Resource:
    """Brings a revision's weights onto the pool's volume before any of its pods starts.

    The init container of the Deployment's pods does the work, with the same image and volumes.
    """
    pool = deployment["metadata"]["name"]
    template: dict[str, Any] = dict(deployment["spec"]["template"]["spec"])
    container = dict(next(item for item in template.pop("initContainers") if item["name"] == pods.WEIGHTS))
    kept = [item for item in container.get("env") or () if item["name"] != "TRITONLLM_REVISION"]
    container["env"] = [*kept, {"name": "TRITONLLM_REVISION", "value": revision}]
    mounted = {item["name"] for item in container.get("volumeMounts") or ()}
    labels = {names.POOL: pool, names.COMPONENT: pods.WEIGHTS, names.MANAGED_BY: names.FIELD_MANAGER}
    spec = template | {
        "containers": [container],
        "volumes": [item for item in template.get("volumes") or () if item["name"] in mounted],
        "restartPolicy": "Never",
    }
    # A download needs no GPU, so it must not wait for a node that has one, nor spread as the server's pods do.
    for field in ("runtimeClassName", "affinity", "topologySpreadConstraints"):
        spec.pop(field, None)
    spec["nodeSelector"] = {
        key: value for key, value in (spec.get("nodeSelector") or {}).items() if key in _PLACES
    }
    # Meshes and policies know pods by these. By those of its selector, the pool's Service would take it for a server.
    selected = (deployment["spec"].get("selector") or {}).get("matchLabels") or {}
    of_pods = objects.labels(deployment["spec"]["template"])
    given = {key: value for key, value in of_pods.items() if key not in selected}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.sync_job(pool, revision),
            "namespace": deployment["metadata"]["namespace"],
            "labels": labels,
            "annotations": {names.REVISION: revision},
            "ownerReferences": [_owner(deployment)],
        },
        "spec": {
            "backoffLimit": _TRIES,
            "activeDeadlineSeconds": _DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": _KEEP_SECONDS,
            "template": {"metadata": {"labels": given | labels}, "spec": spec},
        },
    }


def benchmark_job(deployment: Resource, seen: Pool, endpoint: api.LLMEndpoint) -> Resource:
    """Measures an endpoint: the Job of `tritonllm bench --pool`, with a result that is read from its pod's status."""
    asked = endpoint.spec.benchmark
    assert asked is not None
    pool = deployment["metadata"]["name"]
    arguments = [
        *("bench", "sweep", f"http://{pool}:{seen.service_port}"),
        f"--api={'chat' if seen.gateway else 'triton'}",
        f"--model={endpoint.name}",
        f"--concurrency={','.join(map(str, asked.concurrency))}",
        f"--input-tokens={asked.input_tokens}",
        f"--max-tokens={asked.max_tokens}",
        *([] if asked.requests is None else [f"--requests={asked.requests}"]),
        *([f"--tokenizer={seen.benchmark_tokenizer}"] if seen.benchmark_tokenizer else []),
        "--output=/tmp/results",
        "--termination-message=/dev/termination-log",
    ]
    name = names.benchmark_job(pool)
    body = jobs.body(name, deployment, seen.benchmark_image, arguments, _BENCHMARK_SECONDS)
    labels = {names.POOL: pool, names.MANAGED_BY: names.FIELD_MANAGER}
    for metadata in (body["metadata"], body["spec"]["template"]["metadata"]):
        metadata["labels"] = metadata["labels"] | labels
    body["metadata"]["annotations"] = {
        names.BENCHMARK_OF: endpoint.name,
        names.BENCHMARK_HASH: benchmarks.digest(endpoint),
    }
    return body


def event(resource: Resource, told: events.Event, now: datetime.datetime) -> Resource:
    """An Event about an endpoint. The same one at the same second has the same name, and is there once."""
    metadata = resource["metadata"]
    time = objects.text(now)
    told_of = f"{metadata['uid']} {told.reason} {told.message} {time}"
    digest = hashlib.sha256(told_of.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": told.type,
        "reason": told.reason,
        # https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/: at most 1 KiB.
        "message": told.message.encode()[:1000].decode(errors="ignore"),
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "reportingInstance": names.FIELD_MANAGER,
    }


def _owner(deployment: Resource) -> Resource:
    metadata = deployment["metadata"]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
