"""Reads a pool: its Deployment, and the ConfigMap that its pods boot from. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

from tritonllm import allow
from tritonllm import files as endpoint_files
from tritonllm.bench import jobs as bench_jobs
from tritonllm_operator import facts, names
from tritonllm_operator.facts import Files, Pool, Resource


def read(deployment: Resource) -> Pool:
    """Reads a Deployment of charts/tritonllm-pool."""
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    annotations = metadata.get("annotations") or {}
    template = spec["template"]
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    progressing = conditions.get("Progressing", {})
    exceeded = progressing.get("reason") == "ProgressDeadlineExceeded"
    failure = conditions.get("ReplicaFailure", {})
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    drain = annotations.get(names.DRAIN_SECONDS)
    return Pool(
        uid=metadata["uid"],
        changed=_changed(metadata),
        managed=annotations.get(names.OPERATOR) == "true",
        revision=(template["metadata"].get("annotations") or {}).get(names.REVISION, ""),
        version=(metadata.get("labels") or {}).get(names.VERSION, ""),
        vllm_version=annotations.get(names.RUNTIME, "").removeprefix("vllm-"),
        gpus=int(annotations.get(names.GPUS) or 0),
        drain_seconds=float(drain) if drain else None,
        images=frozenset(annotations.get(names.IMAGES, "").split()),
        shared_weights=annotations.get(names.WEIGHTS) == "Shared",
        downloads=any(item["name"] == "weights" for item in template["spec"].get("initContainers") or ()),
        replicas=spec.get("replicas", 1),
        updated=status.get("updatedReplicas", 0),
        available=status.get("availableReplicas", 0),
        current=status.get("replicas", 0),
        max_surge=str(rolling.get("maxSurge", 0)),
        observed=status.get("observedGeneration", 0) >= metadata.get("generation", 0),
        deadline_exceeded=exceeded,
        given_up=facts.since(progressing) if exceeded else None,
        not_created=failure.get("message", "") if failure.get("status") == "True" else "",
        gateway=any(
            port.get("name") == names.GATEWAY_PORT
            for container in template["spec"].get("containers") or ()
            for port in container.get("ports") or ()
        ),
        allow=_allow(annotations.get(names.ALLOW, "")),
        benchmark_image=annotations.get(bench_jobs.IMAGE, "")
        if annotations.get(names.BENCHMARKS) == "true"
        else "",
        benchmark_tokenizer=annotations.get(names.BENCHMARK_TOKENIZER, ""),
    )


def _allow(text: str) -> allow.Allow:
    """The permissions of a pool. Those of an older chart, or that somebody has spoilt, permit nothing."""
    try:
        return allow.parse(text)
    except allow.Invalid:
        return allow.NOTHING


def _changed(metadata: Resource) -> datetime.datetime:
    """The last change of an object itself, as the API server notes it: not of a subresource like `status`."""
    managed = [item for item in metadata.get("managedFields") or () if not item.get("subresource")]
    times = [metadata["creationTimestamp"], *(item["time"] for item in managed if "time" in item)]
    return max(map(facts.time, times))


def files(config_map: Resource) -> Files:
    """Reads the ConfigMap. A key that somebody has spoilt counts as absent, and is written anew."""
    found: dict[str, Sequence[Resource]] = {}
    needed: dict[str, frozenset[str]] = {}
    for key, text in (config_map.get("data") or {}).items():
        revision = names.revision(key)
        if revision is None:
            continue
        try:
            document = json.loads(text)
            items = document["items"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(items, list):
            found[revision] = [item for item in items if isinstance(item, dict)]
            if mark := endpoint_files.needed_of(document):
                needed[revision] = frozenset(mark)
    annotations = config_map["metadata"].get("annotations") or {}
    return Files(found, {key: annotations[key] for key in names.MARKS if key in annotations}, needed)
