"""What was seen of a pool, as plain data: what `plan` and `status` decide from. No I/O."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonllm import allow
from tritonllm_operator import names

Resource = Mapping[str, Any]
"""An object of the API server, as its JSON says it."""

READY, UNLOADING, LOADING = "READY", "UNLOADING", "LOADING"

# A download that failed is tried again: who has the token or the access may have got it meanwhile.
RETRY = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class ModelState:
    """A model of a pod, as its Triton tells it.

    Attributes:
        state: of the repository index: READY, LOADING, UNLOADING, UNAVAILABLE, or empty.
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
    def ready(self) -> bool:
        """Whether it runs."""
        return self.state == READY

    @property
    def changing(self) -> bool:
        """Whether it is being loaded or unloaded."""
        return self.state in (LOADING, UNLOADING)

    @property
    def failed(self) -> bool:
        """Whether it does not run, and says why."""
        return not self.ready and bool(self.reason)


@dataclass(frozen=True)
class Trouble:
    """Why something is not as it should be: a condition's reason in CamelCase, and what is wrong, where, and what to do."""

    reason: str
    message: str


@dataclass(frozen=True)
class Pod:
    """A pod of the pool that serves, or is to.

    Attributes:
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

    def model(self, name: str) -> ModelState:
        """A model as its Triton holds it; in no state where it has none, or does not say."""
        return (self.models or {}).get(name, ModelState(""))


@dataclass(frozen=True)
class Job:
    """The download of a revision's weights ahead of its pods; `succeeded` is None while it runs, `weights` as in `Pod`."""

    revision: str
    succeeded: bool | None
    finished: datetime.datetime | None = None
    weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    trouble: Trouble | None = None

    def can_be_retried(self, now: datetime.datetime) -> bool:
        """Whether it has been over for so long that another try makes sense."""
        return self.finished is None or now - self.finished >= RETRY


@dataclass(frozen=True)
class Benchmark:
    """The Job of a benchmark.

    Attributes:
        digest: of what it measures; see `benchmarks.digest`.
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
        changed: when anybody last changed what it is to be; replicas and status are no part of that.
        managed: whether its pods boot from the operator's ConfigMap.
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


@dataclass(frozen=True)
class Attempt:
    """A load that has failed so often, and is tried again, not before a time."""

    trouble: Trouble
    again: datetime.datetime
    tries: int = 1


@dataclass(frozen=True)
class World:
    """All that is known of one pool at one time.

    Attributes:
        endpoints: LLMEndpoints whose `spec.pool` is this one, oldest first.
        pods: that are not ending, by name.
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

    def job(self, revision: str) -> Job | None:
        """The Job that brings the weights of a revision."""
        return next((job for job in self.jobs if job.revision == revision), None)


def since(condition: Resource) -> datetime.datetime | None:
    """When a condition got its status; None where it does not say."""
    text = condition.get("lastTransitionTime")
    return time(text) if text else None


def time(text: str) -> datetime.datetime:
    """A time as the API server writes it."""
    return datetime.datetime.fromisoformat(text)
