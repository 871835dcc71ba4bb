"""What was seen of a pool, as plain data: what `plan` and `status` decide from. No I/O."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonllm_operator.objects import Resource
from tritonllm_operator.pools import Files, Pool

READY, UNLOADING, LOADING = "READY", "UNLOADING", "LOADING"

UNREADABLE = "InvalidSpec"
"""The reason with which a pod says that it has left out an endpoint, because it can't read it."""

Reports = Mapping[str, Mapping[str, str]]
"""What a pod or a download told of the weights, by endpoint, and by `endpoint:adapter`: `{"commit": …}`,
`{"reason": …, "message": …}` or nothing."""

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


def problem(reports: Reports, *names: str) -> Trouble | None:
    """Why the first of these failed that did."""
    told = (reports.get(name, {}) for name in names)
    return next((Trouble(each["reason"], each.get("message", "")) for each in told if "reason" in each), None)


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
        weights: what its init container told; without one, which endpoints the pod could not read.
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
    weights: Reports = field(default_factory=dict)
    trouble: Trouble | None = None
    models: Mapping[str, ModelState] | None = None
    silent: Trouble | None = None
    stages: Mapping[str, str] = field(default_factory=dict)

    def model(self, name: str) -> ModelState:
        """A model as its Triton holds it; in no state where it has none, or does not say."""
        return (self.models or {}).get(name, ModelState(""))


@dataclass(frozen=True)
class Job:
    """The download of a revision's weights ahead of its pods; `succeeded`: None while it runs; `weights`: as in `Pod`."""

    revision: str
    succeeded: bool | None
    finished: datetime.datetime | None = None
    weights: Reports = field(default_factory=dict)
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
