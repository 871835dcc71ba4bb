"""What was seen of a pool, as plain data: what `plan` and `status` decide from. No I/O."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonllm import allow
from tritonllm import files as endpoint_files
from tritonllm.bench import jobs as bench_jobs
from tritonllm_operator import names

Resource = Mapping[str, Any]
"""An object of the API server, as its JSON says it."""

READY, UNLOADING, LOADING = "READY", "UNLOADING", "LOADING"


@dataclass(frozen=True)
class ModelState:
    """A model of a pod, as its Triton tells it.

    Attributes:
        state: of the repository index: READY, LOADING, UNLOADING or UNAVAILABLE.
        spec_hash: of the configuration it runs with; empty where it has none of ours.
        kind: engine, guardrail or pipeline; empty where it is not one of ours.
        reason: why it is not ready.
        adapters: of a pipeline that has some: how it says they are, each with `name`, `state` and `message`.
    """

    state: str
    spec_hash: str = ""
    kind: str = ""
    reason: str = ""
    adapters: Sequence[Mapping[str, str]] = ()

    @property
    def failed(self) -> bool:
        """Whether it does not run, and says why."""
        return self.state != READY and bool(self.reason)


@dataclass(frozen=True)
class Trouble:
    """Why something is not as it should be.

    Attributes:
        reason: in CamelCase, for a condition.
        message: what is wrong, where, and what to do.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Pod:
    """A pod of the pool that serves, or is to.

    Attributes:
        name: its name.
        revision: what it boots from; empty for pods that Helm alone made.
        static: whether it boots from its chart's own endpoints. Such pods are Helm's: they were there before the pool
            was handed to the operator, and end as soon as others are ready.
        address: its IP; empty as long as it has none.
        placed: when a node took it; None as long as none has.
        running: whether its server runs.
        started: whether all it boots with is loaded (the startup probe has passed).
        ready: whether the Service sends requests to it.
        weights: the weights' results by endpoint, as the init container told them: `{"commit": …}`,
            `{"reason": …, "message": …}` or nothing.
        trouble: what keeps it from running, as Kubernetes says it.
        models: what its Triton holds; None where it was not asked or did not answer.
        silent: why Triton did not answer.
        stages: what the engines do that are being loaded while the pod starts, by model.
    """

    name: str
    revision: str = ""
    static: bool = False
    address: str = ""
    placed: datetime.datetime | None = None
    running: bool = False
    started: bool = False
    ready: bool = False
    weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    trouble: Trouble | None = None
    models: Mapping[str, ModelState] | None = None
    silent: Trouble | None = None
    stages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """The download of a revision's weights ahead of its pods.

    Attributes:
        revision: which.
        succeeded: whether it is over, and how; None while it runs.
        finished: when it was over.
        weights: as in `Pod`.
        trouble: what keeps it from its end, or ended it.
    """

    revision: str
    succeeded: bool | None
    finished: datetime.datetime | None = None
    weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Benchmark:
    """The Job of a benchmark.

    Attributes:
        endpoint: that it measures.
        digest: what it measures; see `benchmarks.digest`.
        points: the result, as in the endpoint's status; None before its end, and where it has none.
        failure: why it has none, or won't have one; empty otherwise.
        said: how far it is, for people.
        finished: when it was over; None while it runs.
    """

    endpoint: str
    digest: str
    points: Sequence[Mapping[str, Any]] | None = None
    failure: str = ""
    said: str = ""
    finished: datetime.datetime | None = None


@dataclass(frozen=True)
class Pool:
    """A pool's Deployment, as far as it matters here.

    Attributes:
        uid: of the Deployment.
        changed: when anybody last changed what it is to be; replicas and status are no part of that.
        managed: whether its pods boot from the operator's ConfigMap.
        revision: of its pod template.
        version: of its chart, and of tritonllm in its image; empty where it is not known.
        vllm_version: of the image; empty where it is not known.
        gpus: of each pod.
        drain_seconds: what a pod's requests get to end.
        images: whose files its pods mount as image volumes.
        shared_weights: whether another pod can mount the weights beside the running ones.
        downloads: whether its pods have an init container that downloads weights.
        replicas: wanted.
        updated: pods of the newest template.
        available: pods of any template that are ready.
        current: pods in all, of any template.
        max_surge: pods beyond the wanted number during a roll.
        observed: whether Kubernetes has seen the newest template.
        deadline_exceeded: whether the roll to it made no progress for too long.
        given_up: when Kubernetes found that; None where it has not.
        not_created: why Kubernetes cannot create pods; empty where it can.
        gateway: whether its Service speaks OpenAI's API.
        allow: what its endpoints can use.
        benchmark_image: of the benchmarks that its endpoints can ask for; empty where they can't.
        benchmark_tokenizer: that measures their prompts; empty for that of AIPerf.
    """

    uid: str
    changed: datetime.datetime
    managed: bool
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
    deadline_exceeded: bool = False
    given_up: datetime.datetime | None = None
    not_created: str = ""
    gateway: bool = False
    allow: allow.Allow = allow.NOTHING
    benchmark_image: str = ""
    benchmark_tokenizer: str = ""

    @property
    def rolled_out(self) -> bool:
        """Whether every pod is of the newest template and ready."""
        return self.observed and self.updated == self.current == self.available == self.replicas > 0

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
        good: the last revision whose roll was completed; None before the first.
        failed: a revision that was taken back.
        because: why it was.
        needed: endpoints without which a pod of a revision is not ready, by revision, where there are any.
    """

    revisions: Mapping[str, Sequence[Resource]]
    good: str | None = None
    failed: str | None = None
    because: str | None = None
    needed: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """A load that failed and is to be tried again.

    Attributes:
        trouble: why it failed.
        again: not before this time.
    """

    trouble: Trouble
    again: datetime.datetime


@dataclass(frozen=True)
class World:
    """All that is known of one pool at one time.

    Attributes:
        namespace: where it is.
        name: of the pool.
        now: the time.
        endpoints: LLMEndpoints whose `spec.pool` is this one, oldest first.
        pool: its Deployment; None where there is none.
        files: its ConfigMap; None where there is none.
        pods: that are not ending, by name.
        jobs: of the pool.
        benchmark: the Job of a benchmark, if there is one.
        attempts: loads that failed, by pod, model and `spec_hash`.
        config_maps: those with lists of phrases that its endpoints may name, by name.
        refused: why the API server refused the last write, or the read of the pool's Secret.
        recorded: the ConfigMap as the operator wrote it last, or as it was when the operator saw it first.
    """

    namespace: str
    name: str
    now: datetime.datetime
    endpoints: Sequence[Resource] = ()
    pool: Pool | None = None
    files: Files | None = None
    pods: Sequence[Pod] = ()
    jobs: Sequence[Job] = ()
    benchmark: Benchmark | None = None
    attempts: Mapping[tuple[str, str, str], Attempt] = field(default_factory=dict)
    config_maps: Mapping[str, Resource] = field(default_factory=dict)
    refused: Trouble | None = None
    recorded: Files | None = None


def pool(deployment: Resource) -> Pool:
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
        given_up=since(progressing) if exceeded else None,
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
    return max(map(time, times))


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
    return Files(
        found,
        annotations.get(names.GOOD),
        annotations.get(names.FAILED),
        annotations.get(names.BECAUSE),
        needed,
    )


def weights(statuses: Sequence[Resource]) -> dict[str, Mapping[str, str]]:
    """What a container `weights` told when it ended: `tritonllm.weights.report.message` says how."""
    found: dict[str, Mapping[str, str]] = {}
    for status in statuses:
        if status["name"] != "weights":
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


def since(condition: Resource) -> datetime.datetime | None:
    """When a condition got its status; None where it does not say."""
    text = condition.get("lastTransitionTime")
    return time(text) if text else None


def time(text: str) -> datetime.datetime:
    """A time as the API server writes it."""
    return datetime.datetime.fromisoformat(text)
