"""A pool: its Deployment, and the ConfigMap that its pods boot from. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tritonllm import allow
from tritonllm import files as endpoint_files
from tritonllm.bench import jobs as bench_jobs
from tritonllm_operator import names, objects
from tritonllm_operator.objects import Resource


@dataclass(frozen=True)
class Pool:
    """A pool's Deployment, as far as it matters here.

    Attributes:
        changed: when it was created, or when Kubernetes last made progress with its pods.
        managed: whether its pods boot from the operator's ConfigMap.
        brings: names of the endpoints that its chart makes right after it; empty for those of older charts.
        version: of its chart, and of tritonllm in its image; empty where it is not known, as is that of vLLM.
        drain_seconds: what a pod's requests get to end.
        images: whose files its pods mount as image volumes.
        shared_weights: whether another pod can mount the weights beside the running ones.
        downloads: whether its pods have an init container that downloads weights.
        updated: pods of the newest template, of those wanted (`replicas`).
        available: pods of any template that are ready.
        current: pods in all.
        max_surge: pods beyond the wanted number during a roll.
        observed: whether Kubernetes has seen the newest template.
        given_up: when Kubernetes found that the roll to it made no progress for too long; None where it has not.
        not_created: why Kubernetes cannot create pods; empty where it can.
        gateway: whether its Service speaks OpenAI's API.
        allow: what its endpoints can use.
        benchmark_image: of the benchmarks that its endpoints can ask for; empty where they can't.
        benchmark_tokenizer: that measures their prompts; empty for that of AIPerf.
    """

    uid: str
    changed: datetime.datetime
    managed: bool
    brings: frozenset[str] = frozenset()
    revision: str = ""
    version: str = ""
    vllm_version: str = ""
    gpus: int = 0
    drain_seconds: float | None = None
    images: frozenset[str] = frozenset()
    shared_weights: bool = False
    downloads: bool = False
    replicas: int = 1
    updated: int = 0
    available: int = 0
    current: int = 0
    max_surge: str = "0"
    observed: bool = True
    given_up: datetime.datetime | None = None
    not_created: str = ""
    gateway: bool = False
    allow: allow.Allow = allow.NOTHING
    benchmark_image: str = ""
    benchmark_tokenizer: str = ""

    @property
    def service_port(self) -> int:
        """The port of its Service: of the gateway, or of Triton's HTTP."""
        return 8080 if self.gateway else 8000

    @property
    def rolled_out(self) -> bool:
        """Whether every pod is of the newest template and ready."""
        return self.observed and self.updated == self.current == self.available == self.replicas > 0

    @property
    def downloads_ahead(self) -> bool:
        """Whether a Job can bring weights onto the volume that running pods have mounted."""
        return self.downloads and self.shared_weights

    @property
    def roll_is_downtime(self) -> bool:
        """Whether the only pod must go before the next one can start."""
        return self.replicas <= 1 and (
            self.max_surge in ("0", "0%") or (self.downloads and not self.shared_weights)
        )


@dataclass(frozen=True)
class Files:
    """The ConfigMap that the pods boot from.

    Attributes:
        revisions: the endpoints of each revision, as resources.
        marks: the annotations `names.MARKS`: the last revision whose roll was completed, one that was taken back, and why.
        needed: endpoints without which a pod of a revision is not ready, by revision, where there are any.
    """

    revisions: Mapping[str, Sequence[Resource]]
    marks: Mapping[str, str] = field(default_factory=dict)
    needed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def good(self) -> str | None:
        """The last revision whose roll was completed; None before the first."""
        return self.marks.get(names.GOOD)


def read(deployment: Resource) -> Pool:
    """Reads a Deployment of charts/tritonllm-pool."""
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    annotations = objects.annotations(deployment)
    template = spec["template"]
    conditions = objects.conditions(deployment)
    progressing = conditions.get("Progressing", {})
    exceeded = progressing.get("reason") == "ProgressDeadlineExceeded"
    failure = conditions.get("ReplicaFailure", {})
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    drain = annotations.get(names.DRAIN_SECONDS)
    return Pool(
        uid=metadata["uid"],
        changed=objects.time(progressing.get("lastUpdateTime") or metadata["creationTimestamp"]),
        managed=annotations.get(names.OPERATOR) == "true",
        brings=frozenset(annotations.get(names.BRINGS, "").split()),
        revision=objects.annotations(template).get(names.REVISION, ""),
        version=objects.labels(deployment).get(names.VERSION, ""),
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
        given_up=objects.since(progressing) if exceeded else None,
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
    """The permissions of a pool. Those of an older chart, or that can't be read, permit nothing."""
    try:
        return allow.parse(text)
    except allow.Invalid:
        return allow.NOTHING


def files(config_map: Resource) -> Files:
    """Reads the ConfigMap. A key that can't be read counts as absent, and is written again."""
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
    annotations = objects.annotations(config_map)
    return Files(found, {key: annotations[key] for key in names.MARKS if key in annotations}, needed)
