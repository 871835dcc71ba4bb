"""What an LLMEndpoint's status says, and which Events tell of its changes. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonllm import api
from tritonllm_operator import adapters, benchmarks, decisions, facts, names, plan, revisions, rolls
from tritonllm_operator.facts import Pod, Trouble, World

Status = dict[str, Any]
"""`status` as the API server has it."""

CONDITIONS = ("Accepted", "WeightsReady", "Loaded", "Ready")
# Reasons that are no warning.
UNDER_WAY = (
    "Loading",
    "Rolling",
    "Starting",
    "NoPods",
    "NotAccepted",
    "Downloading",
    "WeightsDownloading",
)
# With this reason, `tritonllm weights sync` of a pod leaves out an endpoint.
_UNREADABLE = "InvalidSpec"


@dataclass(frozen=True)
class Event:
    """An Event to publish.

    Attributes:
        type: Normal or Warning.
        reason: in CamelCase.
        message: a sentence.
    """

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class _Finding:
    """A condition without its time."""

    status: str
    reason: str
    message: str


def build(world: World, decided: plan.Plan, name: str) -> Status:
    """The status of one endpoint.

    Args:
        world: what was seen.
        decided: what is done about it.
        name: of the endpoint, which is among those judged.
    """
    judged = next(item for item in decided.judged if item.name == name)
    resource = judged.resource
    before: Mapping[str, Any] = resource.get("status") or {}
    endpoint = decided.wanted.get(name)
    accepted = _accepted(judged.refusal)
    found = {"Accepted": accepted}
    status: Status = {"observedGeneration": resource["metadata"].get("generation", 1)}
    accepted_hash = before.get("policyHash")
    if endpoint is not None and not endpoint.is_classifier:
        if judged.endpoint is not None and not judged.rehearsal:
            accepted_hash = revisions.policy_hash(endpoint)
        observed = {
            pod.name: state.spec_hash
            for pod in world.pods
            if (state := (pod.models or {}).get(name)) is not None and state.state == facts.READY
        }
        # Server-side apply makes null of a map that becomes empty, and refuses it.
        if observed:
            status["observedPolicyHash"] = observed
    if accepted_hash:
        status["policyHash"] = accepted_hash
    if endpoint is None:
        away = _Finding("False", "NotAccepted", f"nothing serves it: {accepted.message}")
        found |= dict.fromkeys(CONDITIONS[1:], away)
        # The version that they serve can't be read here: a newer operator has written it.
        if serving := [pod for pod in world.pods if pod.ready and name in rolls.served([pod])]:
            found["Ready"] = _former(world, serving)
    elif world.pool is not None:
        loaded = [pod for pod in world.pods if revisions.holds(pod, endpoint)]
        serving = [pod for pod in world.pods if _serves(pod, endpoint)]
        trouble = world.refused or _trouble(world, decided, endpoint)
        found["WeightsReady"] = _weights(world, decided, endpoint, trouble)
        found["Loaded"] = _loaded(world, endpoint, loaded, trouble)
        found["Ready"] = _ready(world, endpoint, serving, loaded, judged.refusal, trouble)
        wanted = world.pool.replicas
        status["pods"] = {"desired": wanted, "loaded": len(loaded), "summary": f"{len(loaded)}/{wanted}"}
        service = f"http://{world.name}.{world.namespace}"
        status["url"] = (
            f"{service}:{names.SERVICE_GATEWAY_PORT}/v1"
            if world.pool.gateway
            else f"{service}:{names.SERVICE_TRITON_PORT}/v2/models/{name}"
        )
        if endpoint.commit is not None:
            status["model"] = {"commit": endpoint.commit}
        if endpoint.spec.adapters:
            told = [seen.weights for seen in (*world.jobs, *world.pods)]
            troubles = [job.trouble for job in world.jobs if job.trouble]
            status["adapters"] = adapters.described(endpoint, loaded, told, troubles)
    if benchmark := benchmarks.described(world, decided.benchmark, judged, decided.wanted):
        status["benchmark"] = benchmark
    status["conditions"] = [
        _condition(kind, found[kind], before, status["observedGeneration"], world.now) for kind in CONDITIONS
    ]
    shown = decided.decisions.get(name, decisions.Decision())
    # "Nothing to do" is no news: what was done last stays to be seen.
    done = before.get("plan", {}).get("action") in ("InPlace", "Roll")
    status["plan"] = before["plan"] if shown == decisions.Decision() and done else _plan(shown)
    return status


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same."""
    return _timeless(one) == _timeless(other)


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    """What happened between two statuses that somebody would want to be told."""
    found: list[Event] = []
    shown = after.get("plan", {})
    news = any(before.get(part) != after.get(part) for part in ("plan", "observedGeneration"))
    if news and shown.get("action") in ("InPlace", "Roll"):
        models = ", ".join(shown.get("models", ()))
        word = f" ({shown['message']})" if shown.get("message") else ""
        found.append(Event("Normal", shown["action"], f"{models}{word}"))
    old = {item["type"]: item for item in before.get("conditions", ())}
    for condition in after.get("conditions", ()):
        kind = condition["type"]
        was = old.get(kind, {})
        if (was.get("status"), was.get("reason")) == (condition["status"], condition["reason"]):
            continue
        if condition["status"] == "True":
            if was.get("status") != "True" and kind != "WeightsReady":
                found.append(Event("Normal", kind, condition["message"] or "the pool takes it"))
        elif condition["reason"] not in UNDER_WAY:
            event = Event("Warning", condition["reason"], condition["message"])
            if event not in found:
                found.append(event)
    benchmark = after.get("benchmark", {})
    if benchmarks.over(before.get("benchmark", {}), benchmark):
        failed = benchmark["state"] == benchmarks.FAILED
        kind, reason = ("Warning", "BenchmarkFailed") if failed else ("Normal", "Benchmarked")
        found.append(Event(kind, reason, benchmark["message"]))
    return found


def _accepted(refusal: Trouble | None) -> _Finding:
    if refusal is None:
        return _Finding("True", "Accepted", "")
    return _Finding("False", refusal.reason, refusal.message)


def _serves(pod: Pod, endpoint: api.LLMEndpoint) -> bool:
    """Whether a pod answers for an endpoint in any version; while a model is loaded anew, its old version does."""
    states = [(pod.models or {}).get(model) for model in revisions.hashes(endpoint)]
    return pod.ready and all(
        state is not None and state.state in (facts.READY, facts.LOADING) for state in states
    )


def _trouble(world: World, decided: plan.Plan, endpoint: api.LLMEndpoint) -> Trouble | None:
    """The first cause of what is not as it should be with an endpoint, if anything is wrong."""
    rolls = _waits(decided, endpoint.name)
    if decided.aim.holding is not None and rolls:
        return decided.aim.holding
    mine = revisions.hashes(endpoint)
    for (pod, model, spec_hash), attempt in sorted(world.attempts.items()):
        if mine.get(model) == spec_hash:
            return Trouble(attempt.trouble.reason, f"{model} on pod {pod}: {attempt.trouble.message}")
    for pod in world.pods:
        if pod.trouble is not None:
            return pod.trouble
        if pod.silent is not None:
            return pod.silent
        if pod.weights.get(endpoint.name, {}).get("reason") == _UNREADABLE:
            return Trouble(
                "PoolTooOld",
                f"pod {pod.name} can't read it: {pod.weights[endpoint.name].get('message', '')}; its image is of another"
                f" version than the operator: upgrade the pool {world.name}",
            )
        for model in mine:
            state = (pod.models or {}).get(model)
            if state is not None and state.failed:
                return Trouble("LoadFailed", f"{model} on pod {pod.name}: {state.reason}")
    if world.pool is not None and world.pool.not_created:
        return Trouble("PodNotCreated", f"Kubernetes cannot create a pod: {world.pool.not_created}")
    # Pods of before have another engine as long as its roll has not begun.
    return _neighbour(world) or (None if rolls else _skew(world, endpoint))


def _neighbour(world: World) -> Trouble | None:
    """The endpoint without which new pods don't get ready, and all that comes with them waits."""
    for pod in world.pods:
        needed = world.files.needed.get(pod.revision, ()) if world.files and not pod.ready else ()
        for model, state in sorted((pod.models or {}).items()):
            if state.failed and model.removesuffix("-engine") in needed:
                return Trouble(
                    "LoadFailed",
                    f"{model} on pod {pod.name}: {state.reason}; no new pod gets ready without it, as the old ones serve"
                    " it: correct it, or delete it",
                )
    return None


def _waits(decided: plan.Plan, name: str) -> bool:
    """Whether the endpoint is one of those that a roll is for."""
    decision = decided.decisions.get(name)
    return decision is not None and decision.action == "Roll"


def _skew(world: World, endpoint: api.LLMEndpoint) -> Trouble | None:
    assert world.pool is not None
    wanted = revisions.engine_hash(endpoint)
    for pod in world.pods:
        state = (pod.models or {}).get(endpoint.engine_name)
        if (
            state is None
            or state.state != facts.READY
            or not pod.started
            or pod.revision != world.pool.revision
        ):
            continue
        if state.spec_hash != wanted and world.pool.rolled_out:
            return Trouble(
                "RendererSkew",
                f"pod {pod.name} is new and still runs another {endpoint.engine_name} than is wanted; the pool's image"
                " and the operator are of versions that don't go together: upgrade the older one",
            )
    return None


def _weights(
    world: World, decided: plan.Plan, endpoint: api.LLMEndpoint, trouble: Trouble | None
) -> _Finding:
    assert world.pool is not None
    if endpoint.spec.model is None or endpoint.spec.model.repo is None:
        return _Finding("True", "NotDownloaded", "its weights do not come from the Hub")
    if commit := revisions.resolved(endpoint):
        return _Finding("True", "Downloaded", f"{endpoint.spec.model.repo} at {commit}")
    if (
        decided.aim.holding is not None
        and _waits(decided, endpoint.name)
        and decided.aim.holding.reason != "RolledBack"
    ):
        cause = world.refused or decided.aim.holding
        return _Finding("False", cause.reason, cause.message)
    for pod in world.pods:
        told = pod.weights.get(endpoint.name) or pod.weights.get("") or {}
        if "reason" in told:
            return _Finding("False", told["reason"], told.get("message", ""))
    if not world.pool.downloads and any(_serves(pod, endpoint) for pod in world.pods):
        return _Finding("True", "OnVolume", "the pool downloads nothing; its volume has them")
    if trouble is not None and not any(pod.started for pod in world.pods):
        return _Finding("False", trouble.reason, trouble.message)
    return _Finding("False", "Downloading", "the pool's pods are getting them")


def _loaded(
    world: World, endpoint: api.LLMEndpoint, loaded: Sequence[Pod], trouble: Trouble | None
) -> _Finding:
    assert world.pool is not None
    wanted, pods = world.pool.replicas, len(world.pods)
    told = f"{len(loaded)} of {wanted} pods hold it as it is wanted"
    if loaded and len(loaded) == pods >= wanted:
        return _Finding("True", "Loaded", told)
    if trouble is not None:
        return _Finding("False", trouble.reason, trouble.message)
    if not pods:
        return _Finding(
            "False", "NoPods", "the pool has no pods" if not wanted else "the pool's pods are being made"
        )
    rolling = any(pod.static or pod.revision != world.pool.revision for pod in world.pods)
    reason = "Rolling" if rolling else "Loading" if any(pod.started for pod in world.pods) else "Starting"
    return _Finding("False", reason, told + _stages(world, endpoint))


def _stages(world: World, endpoint: api.LLMEndpoint) -> str:
    """What the endpoint's engines do in pods that start, as a suffix of a sentence."""
    found = [(pod.name, pod.stages.get(endpoint.engine_name)) for pod in world.pods]
    return "".join(f"; pod {name}: {stage}" for name, stage in found if stage)


def _ready(
    world: World,
    endpoint: api.LLMEndpoint,
    serving: Sequence[Pod],
    loaded: Sequence[Pod],
    refusal: Trouble | None,
    trouble: Trouble | None,
) -> _Finding:
    if serving and refusal is not None:
        return _former(world, serving)
    if serving:
        told = f"{len(serving)} of {len(world.pods)} pods serve it"
        if not any(pod in loaded for pod in serving):
            return _Finding("True", "ServingFormerVersion", f"{told}, in the version before this one")
        return _Finding("True", "Serving", told)
    waiting = _loaded(world, endpoint, (), trouble)
    return _Finding("False", waiting.reason, waiting.message)


def _former(world: World, serving: Sequence[Pod]) -> _Finding:
    told = f"{len(serving)} of {len(world.pods)} pods serve it, in the last version that was accepted"
    return _Finding("True", "ServingFormerVersion", told)


def _condition(
    kind: str, found: _Finding, before: Mapping[str, Any], generation: int, now: datetime.datetime
) -> dict[str, Any]:
    was = next((item for item in before.get("conditions", ()) if item["type"] == kind), {})
    since = was.get("lastTransitionTime") if was.get("status") == found.status else None
    return {
        "type": kind,
        "status": found.status,
        "reason": found.reason,
        "message": found.message,
        "observedGeneration": generation,
        "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _plan(decision: decisions.Decision) -> dict[str, Any]:
    return {
        "action": decision.action,
        "models": list(decision.models),
        "message": decision.message,
        "disruptive": decision.disruptive,
    }


def _timeless(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {key: value for key, value in item.items() if key != "lastTransitionTime"}
        for item in status.get("conditions", ())
    ]
    return {**status, "conditions": conditions}
