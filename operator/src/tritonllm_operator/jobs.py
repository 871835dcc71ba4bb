"""Reads the operator's Jobs: whether they are over, and in one sentence what keeps them from it. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from tritonllm.bench import failures, summary
from tritonllm.bench import jobs as bench_jobs
from tritonllm_operator import names, objects, pods
from tritonllm_operator.facts import Benchmark, Job, Trouble
from tritonllm_operator.objects import Resource
from tritonllm_operator.pools import Pool

# The controller of Jobs makes a pod within a second; a quota or an admission policy that refuses it is told in Events only.
_POD_WITHIN = datetime.timedelta(seconds=20)


def of_pool(
    name: str,
    pool: Pool | None,
    found: Sequence[Resource],
    labelled: Sequence[Resource],
    now: datetime.datetime,
) -> tuple[list[Job], Benchmark | None]:
    """The Jobs that the operator has made for a pool: those that bring weights, and that of a benchmark.

    They are told by owner and label; the admission policy lets only the operator set its own.
    """
    downloads: list[Job] = []
    measuring: Benchmark | None = None
    for job in found:
        metadata = job["metadata"]
        owners = [owner["uid"] for owner in metadata.get("ownerReferences") or ()]
        mine = objects.labels(job).get(names.MANAGED_BY) == names.FIELD_MANAGER
        if pool is None or pool.uid not in owners or not mine:
            continue
        made = [pod for pod in labelled if objects.controller(pod) == metadata["uid"]]
        if names.REVISION in objects.annotations(job):
            downloads.append(read(job, made, now))
        elif metadata["name"] == names.benchmark_job(name):
            measuring = benchmark(job, made, now)
    return downloads, measuring


def read(resource: Resource, made: Sequence[Resource], now: datetime.datetime) -> Job:
    """What matters of a Job that brings weights, with its pods, those that are over among them."""
    end = _end(resource)
    results: dict[str, Mapping[str, str]] = {}
    for pod in made:
        results |= pods.results((pod.get("status") or {}).get("containerStatuses") or ())
    return Job(
        revision=resource["metadata"]["annotations"][names.REVISION],
        succeeded=None if end is None else end["type"] == "Complete",
        finished=objects.since(end) if end else None,
        weights=results,
        trouble=_ended(end, resource) if end else _waits(resource, made, now),
    )


def benchmark(resource: Resource, made: Sequence[Resource], now: datetime.datetime) -> Benchmark:
    """What matters of a Job that benchmarks an endpoint, with its pods."""
    name, end = resource["metadata"]["name"], _end(resource)
    finished = objects.since(end) if end else None
    points, failure, said = None, "", ""
    try:
        state = bench_jobs.state(resource, made, ())
        said = f"Job {name}: {state.said}"
    except failures.BenchmarkFailed as error:
        failure = str(error)
    else:
        if state.ended:
            ended = made[0]["status"]["containerStatuses"][0]["state"]["terminated"]
            # A kubelet that has lost a container knows no time.
            finished = objects.time(ended["finishedAt"]) if ended.get("finishedAt") else finished
            points = summary.points(ended.get("message", ""))
            if points is None:
                failure = f"Job {name} ended with code {ended['exitCode']} and no result; see `kubectl logs job/{name}`"
        elif end:
            failure = f"the pod of Job {name} was deleted before its result was read"
        elif not made and (lacking := _waits(resource, made, now)):
            failure = lacking.message
    annotations = objects.annotations(resource)
    endpoint, digest = (annotations.get(key, "") for key in (names.BENCHMARK_OF, names.BENCHMARK_HASH))
    return Benchmark(endpoint, digest, points, failure, said, finished)


def _end(resource: Resource) -> Resource | None:
    """The condition by which a Job is over."""
    found = objects.conditions(resource)
    over = (found.get(kind, {}) for kind in ("Complete", "Failed"))
    return next((condition for condition in over if condition.get("status") == "True"), None)


def _waits(resource: Resource, made: Sequence[Resource], now: datetime.datetime) -> Trouble | None:
    name = resource["metadata"]["name"]
    if not made and now - objects.time(resource["metadata"]["creationTimestamp"]) > _POD_WITHIN:
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
