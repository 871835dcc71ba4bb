"""Benchmarks that endpoints ask for: when one is run, and how it is told. Pure.

A benchmark is a Job beside the pool, one at a time. It is run once for each engine and each `spec.benchmark`: after the roll, and
never again because of a policy. What is known of it is in the endpoint's status, so that it outlasts a restart of the operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonllm import api
from tritonllm.render import canonical
from tritonllm_operator import accept, names, objects, revisions
from tritonllm_operator.facts import Benchmark, World

PENDING, RUNNING, COMPLETE, FAILED = "Pending", "Running", "Complete", "Failed"

Told = Mapping[str, Any]
"""`status.benchmark` of an endpoint."""


@dataclass(frozen=True)
class Step:
    """What to do.

    Attributes:
        start: the endpoint for which to create the Job.
        delete: whether to delete the Job that is there.
    """

    start: api.LLMEndpoint | None = None
    delete: bool = False


def digest(endpoint: api.LLMEndpoint) -> str:
    """What a run measures: the engine, with the load that `spec.benchmark` asks for."""
    assert endpoint.spec.benchmark is not None
    return canonical.digest([revisions.engine_hash(endpoint), endpoint.spec.benchmark.given()])


def step(
    world: World,
    judged: Sequence[accept.Judged],
    wanted: Mapping[str, api.LLMEndpoint],
    *,
    rolling: bool,
    busy: bool,
) -> Step:
    """What to do about benchmarks.

    Args:
        world: what was seen.
        judged: the pool's endpoints.
        wanted: what the pool is to serve.
        rolling: whether a roll is open, which would be measured, too.
        busy: whether something else is to be done first.
    """
    # Without the permission there is no right to delete either.
    if world.pool is None or not world.pool.benchmark_image:
        return Step()
    asked = {item.name: endpoint for item in judged if (endpoint := _asks(item, wanted))}
    quiet = not (rolling or busy) and world.pool.rolled_out and len(world.pods) >= world.pool.replicas
    due = [
        asked[item.name]
        for item in judged
        if item.name in asked
        and not _done(_told(item), digest(asked[item.name]))
        and quiet
        and all(revisions.holds(pod, asked[item.name]) for pod in world.pods)
        and not _lost(world, item, asked[item.name])
    ]
    job = world.benchmark
    if job is None:
        return Step(start=due[0] if due else None)
    measured = asked.get(job.endpoint)
    if measured is None or digest(measured) != job.digest:
        return Step(delete=True)
    if job.finished is None:
        return Step(delete=rolling)
    # Its result is in the status, and the name is needed.
    return Step(delete=bool(due) and measured not in due)


def described(
    world: World, decided: Step, item: accept.Judged, wanted: Mapping[str, api.LLMEndpoint]
) -> dict[str, Any] | None:
    """`status.benchmark` of an endpoint; None where it has none.

    Args:
        world: what was seen.
        decided: what is done.
        item: the endpoint.
        wanted: what the pool is to serve.
    """
    before = _told(item)
    endpoint = _asks(item, wanted)
    if endpoint is None:
        refused = item.endpoint is None or item.rehearsal
        return dict(before) if refused and before.get("state") in (COMPLETE, FAILED) else None
    wanted_hash = digest(endpoint)
    if _done(before, wanted_hash):
        if before["state"] != PENDING:
            return dict(before)
        # It was about to be measured otherwise, and that was taken back.
        return dict(before) | {"state": COMPLETE, "message": _summary(before["points"])}
    job = world.benchmark
    mine = job is not None and (job.endpoint, job.digest) == (item.name, wanted_hash)
    if job is not None and mine and not decided.delete:
        return {"hash": wanted_hash} | _of_job(job, endpoint, names.benchmark_job(world.name))
    if _lost(world, item, endpoint):
        message = f"Job {names.benchmark_job(world.name)} was deleted before its result was read"
        return {
            "hash": wanted_hash,
            "state": FAILED,
            "message": message,
            "completionTime": objects.text(world.now),
        }
    last = {key: before[key] for key in ("hash", "completionTime", "points")} if "points" in before else {}
    return last | {"state": PENDING, "message": _waits(world, decided, endpoint, job)}


def over(before: Told, after: Told) -> bool:
    """Whether a run has ended between two statuses."""
    known = before.get("hash") == after.get("hash") and "completionTime" in before
    return after.get("state") in (COMPLETE, FAILED) and not known


def _asks(item: accept.Judged, wanted: Mapping[str, api.LLMEndpoint]) -> api.LLMEndpoint | None:
    """The endpoint as it is to be served, if it is accepted and asks for a benchmark."""
    if item.endpoint is None or item.rehearsal or item.endpoint.spec.benchmark is None:
        return None
    return wanted.get(item.name)


def _told(item: accept.Judged) -> Told:
    return (item.resource.get("status") or {}).get("benchmark") or {}


def _done(before: Told, wanted: str) -> bool:
    return before.get("hash") == wanted and ("points" in before or before.get("state") == FAILED)


def _lost(world: World, item: accept.Judged, endpoint: api.LLMEndpoint) -> bool:
    """Whether the endpoint's run is known to have begun, and its Job is gone: it is not begun again."""
    before = _told(item)
    return (
        world.benchmark is None and before.get("state") == RUNNING and before.get("hash") == digest(endpoint)
    )


def _of_job(job: Benchmark, endpoint: api.LLMEndpoint, name: str) -> dict[str, Any]:
    if job.finished is None:
        return {"state": RUNNING, "message": job.failure or job.said}
    found: dict[str, Any] = {"completionTime": objects.text(job.finished)}
    if failure := _failure(job, endpoint, name):
        return found | {"state": FAILED, "message": failure}
    points = [dict(point) for point in job.points or ()]
    return found | {"state": COMPLETE, "message": _summary(points), "points": points}


def _failure(job: Benchmark, endpoint: api.LLMEndpoint, name: str) -> str:
    """Why a Job that is over has no result; empty if it has one."""
    assert endpoint.spec.benchmark is not None
    if job.points is None:
        return job.failure
    of_concurrency = {point["concurrency"]: point for point in job.points}
    for concurrency in endpoint.spec.benchmark.concurrency:
        point = of_concurrency.get(concurrency, {})
        if not point.get("succeeded"):
            kind = f" ({point['error']})" if "error" in point else ""
            return f"no request succeeded at concurrency {concurrency}{kind}; see `kubectl logs job/{name}`"
    return ""


def _summary(points: Sequence[Mapping[str, Any]]) -> str:
    best = max(points, key=lambda point: point.get("outputTokensPerSecond", 0))
    parts = [
        f"{best['outputTokensPerSecond']:g} output tokens/s" if "outputTokensPerSecond" in best else "",
        f"latency p99 {best['latencyP99Ms']:g} ms" if "latencyP99Ms" in best else "",
        f"{best['failed']} requests failed" if best["failed"] else "",
    ]
    return f"at concurrency {best['concurrency']}: {', '.join(filter(None, parts)) or 'no metrics'}"


def _waits(world: World, decided: Step, endpoint: api.LLMEndpoint, job: Benchmark | None) -> str:
    assert world.pool is not None
    if not world.pool.benchmark_image:
        return "the pool does not permit benchmarks; its owner can set allow.benchmarks: true and benchmark.image"
    if world.refused is not None:
        return world.refused.message
    if decided.start is not None and decided.start.name == endpoint.name:
        return f"Job {names.benchmark_job(world.name)} is being created"
    if job is not None and job.endpoint != endpoint.name:
        return f"it begins after the benchmark of {job.endpoint}"
    return "it begins once every pod of the pool serves this version and no roll is open"
