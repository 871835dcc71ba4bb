"""What to do about a pool: the difference between what is wanted and what its pods report. Pure.

The table of the design, model by model: pipelines and guardrails are loaded in place, engines come with a new
revision of the pods, what is refused leaves the old version alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tritonllm import api
from tritonllm_operator import accept, benchmarks, loads, objects, records, revisions, rolls
from tritonllm_operator.decisions import Decision, decision
from tritonllm_operator.facts import Trouble, World
from tritonllm_operator.pools import Pool
from tritonllm_operator.revisions import Endpoints

# Pods get their first endpoints together. What a chart does not announce is all there once nothing is younger.
QUIET = datetime.timedelta(seconds=2)
# Without what is announced, or without any endpoint, they start after this, unless pods of the chart still serve.
EMPTY = datetime.timedelta(seconds=20)


@dataclass(frozen=True)
class Plan:
    """All that is to be done in this pass.

    Attributes:
        judged: the pool's endpoints after they were looked at.
        decisions: by endpoint.
        wanted: what the pool is to serve: accepted endpoints, and the last good version of refused ones.
        aim: which revision the pods shall be of, and what has to come before.
        data: the ConfigMap's, where it has to be written.
        steps: model changes on pods, all at once.
        benchmark: what to do about benchmarks.
        waits: it is too early for something: soon there is more to do.
    """

    judged: Sequence[accept.Judged]
    decisions: Mapping[str, Decision]
    wanted: Mapping[str, api.LLMEndpoint] = field(default_factory=dict)
    aim: rolls.Aim = field(default_factory=rolls.Aim)
    data: Mapping[str, str] | None = None
    steps: Sequence[loads.Load | loads.Unload] = ()
    benchmark: benchmarks.Step = field(default_factory=benchmarks.Step)
    waits: bool = False

    @property
    def acts(self) -> bool:
        """Whether there is anything to do but to say how it stands."""
        return bool(
            self.data is not None
            or self.aim.revision is not None
            or self.aim.start_job is not None
            or self.aim.delete_jobs
            or self.steps
            or self.benchmark != benchmarks.Step()
        )


def decide(world: World) -> Plan:
    """Decides what to do about a pool. Where there is no pool, or the operator does not manage it, endpoints are only refused."""
    pool = world.pool
    if pool is None or not pool.managed:
        judged = accept.judge(world, {})
        return Plan(judged, {item.name: decision(item) for item in judged})
    everybody = world.pods
    former = [pod for pod in everybody if pod.static]
    world = replace(world, pods=[pod for pod in everybody if not pod.static])

    # What is to be served.
    kept = records.kept(world)
    foreign = records.foreign(world, kept)
    written = pool.revision in kept
    running = kept.get(pool.revision, {})
    judged = accept.judge(world, running)
    doubtful = records.restore(world, judged, kept, foreign)
    wanted = _wanted(judged, running)
    kept = records.complete(world, pool, wanted, kept, foreign)
    running = kept[pool.revision]

    # Whether it is too early, or would take from the chart's pods what they serve.
    refused = {item.name for item in judged} - wanted.keys()
    unreadable = {name: item for name, item in foreign.get(pool.revision, {}).items() if name in refused}
    too_early = bool(former or not written) and _too_early(world, pool, handed_over=bool(former))
    if too_early or rolls.served(former) & (refused - unreadable.keys()):
        decisions = {item.name: decision(item, pool) for item in judged}
        waiting = rolls.Aim(holding=_missing(world, pool) if too_early else None)
        return Plan(judged, decisions, wanted, waiting, waits=too_early)

    # Which revision the pods shall be of, and what each boots from.
    aim = rolls.aim(world, pool, wanted, kept)
    files = _files(aim, wanted, kept)
    served = {revision: endpoints.keys() | unreadable.keys() for revision, endpoints in files.items()}
    needed = rolls.needed(world, pool, aim, served, everybody)
    texts = {
        revision: {name: foreign.get(revision, {}).get(name, item) for name, item in unreadable.items()}
        for revision in files
    }
    data = records.data(world.files, files, needed, aim.marks, texts)

    # What changes on pods that run, and what each endpoint is told of it.
    steps = loads.steps(world, files, wanted.keys() | unreadable.keys(), doubtful)
    before = running if written or running != wanted else None
    decisions = {item.name: decision(item, pool, before, steps) for item in judged}
    waits = any(state.changing for pod in world.pods for state in (pod.models or {}).values())
    decided = Plan(judged, decisions, wanted, aim, data, steps, waits=waits)

    # What is measured, once there is nothing else to do.
    busy = decided.acts or waits or aim.holding is not None or bool(former)
    rolling = rolls.is_open(pool, aim)
    return replace(decided, benchmark=benchmarks.step(world, judged, wanted, rolling=rolling, busy=busy))


def _files(aim: rolls.Aim, wanted: Endpoints, kept: Mapping[str, Endpoints]) -> dict[str, Endpoints]:
    """What the pods of each revision boot from."""
    files: dict[str, Endpoints] = {
        revision: revisions.in_place(endpoints, wanted)
        for revision, endpoints in kept.items()
        if revision in aim.keep
    }
    if aim.target is not None:
        earlier = kept.get(aim.target, {})
        files[aim.target] = {
            name: revisions.with_commit(endpoint, earlier.get(name)) for name, endpoint in wanted.items()
        }
    return files


def _wanted(judged: Sequence[accept.Judged], running: Endpoints) -> dict[str, api.LLMEndpoint]:
    """What the pool is to serve: what is accepted, and the version that runs of what is not."""
    wanted: dict[str, api.LLMEndpoint] = {}
    for item in judged:
        endpoint = item.endpoint if item.endpoint and not item.rehearsal else running.get(item.name)
        if endpoint is not None:
            wanted[item.name] = revisions.with_commit(endpoint, running.get(item.name))
    for name in {name for endpoint in wanted.values() for name in endpoint.classifiers} - wanted.keys():
        # Deleted, while a rule asks it: it goes when the rule does.
        if name in running:
            wanted[name] = running[name]
    return wanted


def _too_early(world: World, pool: Pool, *, handed_over: bool) -> bool:
    """Whether more endpoints may be on their way, together with the pool: Helm makes them after the Deployment."""
    if any(pod.started for pod in world.pods):
        return False
    if not world.endpoints:
        return handed_over or world.now - pool.changed < EMPTY
    if not (world.files is None or handed_over):
        return False
    created = {item["metadata"]["name"]: item["metadata"]["creationTimestamp"] for item in world.endpoints}
    if not pool.brings:
        return world.now - max(map(objects.time, created.values())) < QUIET
    # Others may come at any time, and don't make what is announced be waited for longer.
    arrived = [objects.time(created[name]) for name in pool.brings & created.keys()]
    return len(arrived) < len(pool.brings) and world.now - max(arrived, default=pool.changed) < EMPTY


def _missing(world: World, pool: Pool) -> Trouble | None:
    """That endpoints are announced and not there."""
    if missing := pool.brings - {item["metadata"]["name"] for item in world.endpoints}:
        return Trouble(
            "EndpointsMissing",
            f"the pool's first pods wait {EMPTY.seconds} s for {', '.join(sorted(missing))}, which its chart brings, too",
        )
    return None
