"""What to do about a pool: the difference between what is wanted and what its pods report. Pure.

The table of the design, model by model: pipelines and guardrails are loaded in place, engines come with a new
revision of the pods, what is refused leaves the old version alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tritonllm import api
from tritonllm import files as endpoint_files
from tritonllm_operator import accept, adapters, benchmarks, facts, names, revisions, rolls
from tritonllm_operator.facts import Pod, Pool, Resource, Trouble, World

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
    kept = _kept(world)
    foreign = _foreign(world, kept)
    running = kept.get(pool.revision, {})
    judged = accept.judge(world, running)
    doubtful = _restored(world, judged, kept, foreign)
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
        held = _as_reported(wanted, world.pods, revision)
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
        kept[pool.revision] = _as_reported(wanted, world.pods, pool.revision)
        running = None if kept[pool.revision] == wanted else kept[pool.revision]
    for revision in {pod.revision for pod in world.pods} - kept.keys():
        kept[revision] = _as_reported(wanted, world.pods, revision)
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
        data=_data(world.files, files, needed, aim.annotations, texts),
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


def _kept(world: World) -> dict[str, dict[str, api.LLMEndpoint]]:
    """The endpoints of each revision, with the commits that pods and Jobs have reported since."""
    found: dict[str, dict[str, api.LLMEndpoint]] = {}
    for revision, items in (world.files.revisions if world.files else {}).items():
        reports = [seen.weights for seen in (*world.pods, *world.jobs) if seen.revision == revision]
        found[revision] = {
            name: adapters.reported(
                _reported(endpoint, [report.get(name, {}) for report in reports]), reports
            )
            for name, endpoint in revisions.endpoints(items).items()
        }
    return found


def _foreign(
    world: World, kept: Mapping[str, Mapping[str, api.LLMEndpoint]]
) -> dict[str, dict[str, Resource]]:
    """The entries of each revision that this version can't read; a newer one may have written them."""
    return {
        revision: found
        for revision, items in (world.files.revisions if world.files else {}).items()
        if (found := revisions.unreadable(items, kept[revision]))
    }


def _reported(endpoint: api.LLMEndpoint, reports: Sequence[Mapping[str, str]]) -> api.LLMEndpoint:
    commit = next((report["commit"] for report in reports if "commit" in report), None)
    return endpoint if commit is None or revisions.resolved(endpoint) else endpoint.at(commit)


def _too_early(world: World, pool: Pool, *, handed_over: bool) -> bool:
    """Whether more endpoints may be on their way, together with the pool: Helm makes them after the Deployment."""
    if any(pod.started for pod in world.pods):
        return False
    if not world.endpoints:
        return handed_over or world.now - pool.changed < EMPTY
    youngest = max(facts.time(item["metadata"]["creationTimestamp"]) for item in world.endpoints)
    return (world.files is None or handed_over) and world.now - youngest < QUIET


def _as_reported(
    wanted: Mapping[str, api.LLMEndpoint], pods: Sequence[Pod], revision: str
) -> dict[str, api.LLMEndpoint]:
    """What the pods of a revision boot from where its file is not there: new pods all, others what they hold."""
    held = [pod.models for pod in pods if pod.revision == revision and pod.started and pod.models is not None]
    if not held:
        return dict(wanted)
    engines = {model: state.spec_hash for models in held for model, state in models.items()}
    return {
        name: endpoint
        for name, endpoint in wanted.items()
        if engines.get(endpoint.engine_name) == revisions.engine_hash(endpoint)
    }


def _data(
    before: facts.Files | None,
    files: Mapping[str, Mapping[str, api.LLMEndpoint]],
    needed: Mapping[str, frozenset[str]],
    annotations: Mapping[str, str],
    unreadable: Mapping[str, Mapping[str, Resource]],
) -> dict[str, str] | None:
    """The ConfigMap's content, where what is there means something else."""
    if before is not None and before.revisions.keys() == files.keys() and before.needed == needed:
        marks = {names.GOOD: before.good, names.FAILED: before.failed, names.BECAUSE: before.because}
        same = all(
            _means(before.revisions[revision], endpoints, unreadable[revision])
            for revision, endpoints in files.items()
        )
        if same and rolls.present(marks) == annotations:
            return None
    return {
        names.key(revision): revisions.text(
            endpoints.values(), needed.get(revision, ()), unreadable[revision]
        )
        for revision, endpoints in files.items()
    }


def _means(
    items: Sequence[Resource], endpoints: Mapping[str, api.LLMEndpoint], unreadable: Mapping[str, Resource]
) -> bool:
    """Whether a file says this, in whatever words: those of another version of the operator may differ."""
    wanted = revisions.resources(endpoints.values())
    if len(items) != len(wanted) + len(unreadable):
        return False
    if items == wanted:
        return True
    read = revisions.endpoints(items)
    return revisions.resources(read.values()) == wanted and revisions.unreadable(items, read) == unreadable


def _restored(
    world: World,
    judged: Sequence[accept.Judged],
    kept: Mapping[str, dict[str, api.LLMEndpoint]],
    foreign: Mapping[str, Mapping[str, Resource]],
) -> set[tuple[str, str]]:
    """Puts back what was accepted of endpoints whose present version is not, where the ConfigMap says something else.

    Anybody may have edited the ConfigMap. What was accepted is known by its hash in `status`, which the operator alone
    writes; the text comes from the ConfigMap as it was before.

    Args:
        world: what was seen.
        judged: its endpoints.
        kept: by revision; corrected here.
        foreign: entries that can't be read, by revision.

    Returns:
        Revision and name of what is not as it was accepted and can't be put back: no pod is changed to it.
    """
    doubtful: set[tuple[str, str]] = set()
    for item in judged:
        if item.endpoint is not None and not item.rehearsal:
            continue
        accepted = (item.resource.get("status") or {}).get("policyHash")
        for revision, endpoints in kept.items():
            found = endpoints.get(item.name)
            if found is None:
                if item.name not in foreign.get(revision, {}):
                    continue
            elif found.is_classifier or revisions.policy_hash(found) == accepted:
                continue
            before = world.recorded.revisions.get(revision, ()) if world.recorded else ()
            texts = [each for each in before if endpoint_files.name_of(each) == item.name]
            former = revisions.endpoints(texts).get(item.name)
            if former is not None and not former.is_classifier and revisions.policy_hash(former) == accepted:
                endpoints[item.name] = former
            else:
                doubtful.add((revision, item.name))
    return doubtful


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
    changed = revisions.engine_hash(endpoint) != revisions.engine_hash(before)
    return "its engine is changed" if changed else "maxConcurrentRequests is more than the pods started for"


def _refused(item: accept.Judged) -> Decision:
    return Decision("Reject", message=item.refusal.message if item.refusal else "")
