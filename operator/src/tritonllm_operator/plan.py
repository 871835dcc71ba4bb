"""What to do about a pool: the difference between what is wanted and what its pods report. Pure.

The table of the design, model by model: pipelines and guardrails are loaded in place, engines come with a new
revision of the pods, what is refused leaves the old version alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tritonllm import api
from tritonllm_operator import accept, benchmarks, facts, names, records, revisions, rolls
from tritonllm_operator.facts import Pod, Pool, Trouble, World

# Pods get their first endpoints once none is younger: those of one `helm install` then start together.
QUIET = datetime.timedelta(seconds=2)
# A pool that nobody gave an endpoint within this time starts without any, unless pods of its chart still serve.
EMPTY = datetime.timedelta(seconds=20)


@dataclass(frozen=True)
class Decision:
    """What happens to one endpoint; `status.plan` shows it before it is done.

    Attributes:
        action: None, InPlace, Roll or Reject.
        models: that are loaded or unloaded.
        message: why, where it needs a word.
        disruptive: nobody serves the pool for a while.
    """

    action: str = "None"
    models: tuple[str, ...] = ()
    message: str = ""
    disruptive: bool = False


@dataclass(frozen=True)
class Load:
    """A model to load on a pod, with its complete configuration."""

    pod: str
    model: str
    config: str
    spec_hash: str


@dataclass(frozen=True)
class Unload:
    """A model to unload from a pod."""

    pod: str
    model: str


@dataclass(frozen=True)
class Plan:
    """All that is to be done in this pass.

    Attributes:
        judged: the pool's endpoints after they were looked at.
        wanted: what the pool is to serve: accepted endpoints, and the last good version of refused ones.
        decisions: by endpoint.
        data: the ConfigMap's, where it has to be written.
        annotations: the ConfigMap's, with `data`.
        revision: for the Deployment's pod template, where it has to change.
        start_job: the revision whose weights a Job is to bring.
        delete_jobs: revisions whose Jobs are of no use any more.
        steps: model changes on pods, all at once.
        benchmark: what to do about benchmarks.
        holding: why a roll has not begun or was taken back.
        waits: it is too early for something: soon there is more to do.
    """

    judged: Sequence[accept.Judged] = ()
    wanted: Mapping[str, api.LLMEndpoint] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    data: Mapping[str, str] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    start_job: str | None = None
    delete_jobs: tuple[str, ...] = ()
    steps: tuple[Load | Unload, ...] = ()
    benchmark: benchmarks.Step = field(default_factory=benchmarks.Step)
    holding: Trouble | None = None
    waits: bool = False

    @property
    def acts(self) -> bool:
        """Whether there is anything to do but to say how it stands."""
        return bool(
            self.data is not None
            or self.revision is not None
            or self.start_job is not None
            or self.delete_jobs
            or self.steps
            or self.benchmark != benchmarks.Step()
        )


def decide(world: World) -> Plan:
    """The plan for a pool.

    Args:
        world: what was seen.

    Returns:
        Nothing but the refusals, where there is no pool or it is not the operator's.
    """
    pool = world.pool
    if pool is None or not pool.managed:
        judged = accept.judge(world, {})
        return Plan(judged=judged, decisions={item.name: _refused(item) for item in judged})
    everybody = world.pods
    former = [pod for pod in everybody if pod.static]
    world = replace(world, pods=[pod for pod in everybody if not pod.static])
    kept = records.kept(world)
    foreign = records.foreign(world, kept)
    running = kept.get(pool.revision, {})
    judged = accept.judge(world, running)
    doubtful = records.restore(world, judged, kept, foreign)
    wanted: dict[str, api.LLMEndpoint] = {}
    for item in judged:
        endpoint = item.endpoint if item.endpoint and not item.rehearsal else running.get(item.name)
        if endpoint is not None:
            wanted[item.name] = revisions.with_commit(endpoint, running.get(item.name))
    for name in {name for endpoint in wanted.values() for name in endpoint.classifiers} - wanted.keys():
        # Deleted, while a rule asks it: it goes when the rule does.
        if name in running:
            wanted[name] = running[name]
    for revision, entries in foreign.items():
        # A text that nobody here can compare says nothing: what the pods hold, does.
        held = records.as_reported(wanted, world.pods, revision)
        kept[revision] |= {name: held[name] for name in entries.keys() & held.keys()}
    refused = {item.name for item in judged} - wanted.keys()
    unreadable = {name: item for name, item in foreign.get(pool.revision, {}).items() if name in refused}
    kept = {revision: revisions.shared(endpoints, wanted) for revision, endpoints in kept.items()}
    running = kept.get(pool.revision, {})
    if (former or pool.revision not in kept) and _too_early(world, pool, handed_over=bool(former)):
        return Plan(judged, wanted, _decisions(judged, wanted, pool), waits=True)
    if rolls.served(former) & (refused - unreadable.keys()):
        # The chart's pods serve what is refused here: they must not go for pods without it.
        return Plan(judged, wanted, _decisions(judged, wanted, pool))
    if pool.revision not in kept:
        kept[pool.revision] = records.as_reported(wanted, world.pods, pool.revision)
        running = None if kept[pool.revision] == wanted else kept[pool.revision]
    for revision in {pod.revision for pod in world.pods} - kept.keys():
        kept[revision] = records.as_reported(wanted, world.pods, revision)
    aim = rolls.aim(world, pool, wanted, kept)
    files = {
        revision: revisions.in_place(endpoints, wanted)
        for revision, endpoints in kept.items()
        if revision in aim.keep
    }
    if aim.target is not None:
        earlier = kept.get(aim.target, {})
        files[aim.target] = {
            name: revisions.with_commit(endpoint, earlier.get(name)) for name, endpoint in wanted.items()
        }
    needed = {
        revision: found
        for revision, endpoints in files.items()
        if (
            found := rolls.needed(world, pool, revision, aim, everybody)
            & (endpoints.keys() | unreadable.keys())
        )
    }
    served = wanted.keys() | unreadable.keys()
    steps = tuple(step for pod in world.pods for step in _steps(pod, files, served, world, doubtful))
    texts = {
        revision: {name: foreign.get(revision, {}).get(name, item) for name, item in unreadable.items()}
        for revision in files
    }
    decided = Plan(
        judged=judged,
        wanted=wanted,
        decisions=_decisions(judged, wanted, pool, running, steps),
        data=records.data(world.files, files, needed, aim.annotations, texts),
        annotations=aim.annotations,
        revision=aim.move_to,
        start_job=aim.start_job,
        delete_jobs=aim.delete_jobs,
        steps=steps,
        holding=aim.holding,
        waits=any(
            _is(state, facts.LOADING, facts.UNLOADING)
            for pod in world.pods
            for state in (pod.models or {}).values()
        ),
    )
    benchmark = benchmarks.step(
        world,
        judged,
        wanted,
        rolling=aim.move_to is not None
        or aim.annotations.get(names.GOOD) != pool.revision
        or pool.updated < pool.current,
        busy=decided.acts or decided.waits or decided.holding is not None or bool(former),
    )
    return replace(decided, benchmark=benchmark)


def _too_early(world: World, pool: Pool, *, handed_over: bool) -> bool:
    """Whether more endpoints may be on their way, together with the pool: Helm makes them after the Deployment."""
    if any(pod.started for pod in world.pods):
        return False
    if not world.endpoints:
        return handed_over or world.now - pool.changed < EMPTY
    youngest = max(facts.time(item["metadata"]["creationTimestamp"]) for item in world.endpoints)
    return (world.files is None or handed_over) and world.now - youngest < QUIET


def _steps(
    pod: Pod,
    files: Mapping[str, Mapping[str, api.LLMEndpoint]],
    served: Container[str],
    world: World,
    doubtful: Container[tuple[str, str]],
) -> list[Load | Unload]:
    """What to change on one pod. A pod that still boots loads its models itself."""
    if not pod.started or pod.models is None or pod.revision not in files:
        return []
    found: list[Load | Unload] = []
    for endpoint in files[pod.revision].values():
        hashes = revisions.hashes(endpoint)
        if not _is(pod.models.get(endpoint.engine_name), facts.READY):
            continue
        if (pod.revision, endpoint.name) in doubtful:
            continue
        for model in endpoint.models[1:]:
            state = pod.models.get(model)
            if _is(state, facts.LOADING, facts.UNLOADING):
                continue
            if _is(state, facts.READY) and state is not None and state.spec_hash == hashes[model]:
                continue
            attempt = world.attempts.get((pod.name, model, hashes[model]))
            if attempt is None or attempt.again <= world.now:
                found.append(Load(pod.name, model, revisions.model_config(endpoint, model), hashes[model]))
    return found + _leftovers(pod, served)


def _leftovers(pod: Pod, served: Container[str]) -> list[Load | Unload]:
    """Models of endpoints that are gone: the pipeline first, and what it needs once it is away."""
    assert pod.models is not None
    ours = {model: state for model, state in pod.models.items() if state.kind and state.state == facts.READY}
    found: list[Load | Unload] = []
    for model, state in ours.items():
        endpoint = model if state.kind == "pipeline" else model.removesuffix(f"-{state.kind}")
        ending = _is(pod.models.get(endpoint), facts.READY, facts.LOADING, facts.UNLOADING)
        if endpoint not in served and (state.kind in ("pipeline", "classifier") or not ending):
            found.append(Unload(pod.name, model))
    return found


def _is(state: facts.ModelState | None, *states: str) -> bool:
    return state is not None and state.state in states


def _decisions(
    judged: Sequence[accept.Judged],
    wanted: Mapping[str, api.LLMEndpoint],
    pool: Pool,
    running: Mapping[str, api.LLMEndpoint] | None = None,
    steps: Sequence[Load | Unload] = (),
) -> dict[str, Decision]:
    return {item.name: _decision(item, wanted.get(item.name), pool, running, steps) for item in judged}


def _decision(
    item: accept.Judged,
    wanted: api.LLMEndpoint | None,
    pool: Pool,
    running: Mapping[str, api.LLMEndpoint] | None,
    steps: Sequence[Load | Unload],
) -> Decision:
    if item.endpoint is None:
        return _refused(item)
    # What its owner wants, which a rehearsal does not do.
    endpoint = item.endpoint
    hashes = revisions.hashes(endpoint)
    word = "only shown, nothing is done" if item.rehearsal else ""
    if running is None:
        return Decision(message=word or "the pool's pods will start with it")
    if revisions.new_engines({item.name: endpoint}, running) or endpoint.classifiers.keys() - running.keys():
        why = _why(endpoint, running)
        return Decision("Roll", tuple(hashes), "; ".join(filter(None, (why, word))), pool.roll_is_downtime)
    before = revisions.hashes(running[item.name])
    changed = [model for model in hashes if hashes[model] != before[model]]
    repaired = [] if item.rehearsal else [step.model for step in steps if step.model in hashes]
    models = tuple(sorted({*changed, *repaired}))
    if models:
        return Decision("InPlace", models, word or ("" if changed else "pods had something else loaded"))
    return Decision(message=word)


def _why(endpoint: api.LLMEndpoint, running: Mapping[str, api.LLMEndpoint]) -> str:
    before = running.get(endpoint.name)
    if before is None:
        return "its engine is new"
    if new := sorted(endpoint.classifiers.keys() - running.keys()):
        return f"its rules ask {', '.join(new)}, which is new"
    if revisions.engine_hash(endpoint) != revisions.engine_hash(before):
        return "its engine is changed"
    return "spec.model.revision is resolved again"


def _refused(item: accept.Judged) -> Decision:
    return Decision("Reject", message=item.refusal.message if item.refusal else "")
