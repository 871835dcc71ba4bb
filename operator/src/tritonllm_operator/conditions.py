"""How an endpoint stands: its conditions, and the first cause of what is not as it should be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tritonllm import api
from tritonllm_operator import accept, facts, plan, revisions, rolls
from tritonllm_operator.facts import Pod, Pool, Trouble, World

# With this reason, `tritonllm weights sync` of a pod leaves out an endpoint.
_UNREADABLE = "InvalidSpec"


@dataclass(frozen=True)
class Condition:
    """A condition without its type and time.

    Attributes:
        met: whether it holds.
        reason: in CamelCase.
        message: a sentence.
    """

    met: bool
    reason: str
    message: str


def of(
    world: World, decided: plan.Plan, judged: accept.Judged, loaded: Sequence[Pod]
) -> Mapping[str, Condition]:
    """The conditions of an endpoint by type, as its status has them.

    Args:
        world: what was seen.
        decided: what is done about it.
        judged: the endpoint.
        loaded: pods that have it as it is wanted.
    """
    refusal, endpoint = judged.refusal, decided.wanted.get(judged.name)
    accepted = _no(refusal) if refusal else Condition(True, "Accepted", "")
    if endpoint is None or world.pool is None:
        away = Condition(False, "NotAccepted", f"nothing serves it: {accepted.message}")
        # The version that they serve can't be read here: a newer operator has written it.
        serving = [pod for pod in world.pods if pod.ready and judged.name in rolls.served([pod])]
        ready = _former(world, serving) if serving else away
        return {"Accepted": accepted, "WeightsReady": away, "Loaded": away, "Ready": ready}
    trouble = world.refused or next(_causes(world, world.pool, decided, endpoint), None)
    return {
        "Accepted": accepted,
        "WeightsReady": _weights(world, world.pool, decided, endpoint, trouble),
        "Loaded": _loaded(world, world.pool, endpoint, loaded, trouble),
        "Ready": _ready(world, world.pool, endpoint, loaded, refusal, trouble),
    }


def _no(trouble: Trouble) -> Condition:
    return Condition(False, trouble.reason, trouble.message)


def _causes(world: World, pool: Pool, decided: plan.Plan, endpoint: api.LLMEndpoint) -> Iterator[Trouble]:
    """What is not as it should be with an endpoint, the nearest to the cause first."""
    rolled = _is_rolled(decided, endpoint)
    if decided.aim.holding is not None and rolled:
        yield decided.aim.holding
    mine = revisions.hashes(endpoint)
    for (pod, model, spec_hash), attempt in sorted(world.attempts.items()):
        if mine.get(model) == spec_hash:
            yield Trouble(attempt.trouble.reason, f"{model} on pod {pod}: {attempt.trouble.message}")
    for pod in world.pods:
        yield from filter(None, (pod.trouble, pod.silent))
        told = pod.weights.get(endpoint.name, {})
        if told.get("reason") == _UNREADABLE:
            yield Trouble(
                "PoolTooOld",
                f"pod {pod.name} can't read it: {told.get('message', '')}; its image is of another version than the"
                f" operator: upgrade the pool {world.name}",
            )
        for model in mine:
            if (state := pod.model(model)).failed:
                yield Trouble("LoadFailed", f"{model} on pod {pod.name}: {state.reason}")
    if pool.not_created:
        yield Trouble("PodNotCreated", f"Kubernetes cannot create a pod: {pool.not_created}")
    yield from _neighbours(world)
    # Pods of before have another engine as long as its roll has not begun.
    if not rolled and pool.rolled_out:
        yield from _skews(world, pool, endpoint)


def _is_rolled(decided: plan.Plan, endpoint: api.LLMEndpoint) -> bool:
    """Whether the endpoint is one of those that a roll is for."""
    return endpoint.name in decided.decisions and decided.decisions[endpoint.name].action == "Roll"


def _neighbours(world: World) -> Iterator[Trouble]:
    """Endpoints without which new pods don't get ready, and all that comes with them waits."""
    for pod in world.pods:
        needed = world.files.needed.get(pod.revision, ()) if world.files and not pod.ready else ()
        for model, state in sorted((pod.models or {}).items()):
            if state.failed and model.removesuffix("-engine") in needed:
                yield Trouble(
                    "LoadFailed",
                    f"{model} on pod {pod.name}: {state.reason}; no new pod gets ready without it, as the old ones serve"
                    " it: correct it, or delete it",
                )


def _skews(world: World, pool: Pool, endpoint: api.LLMEndpoint) -> Iterator[Trouble]:
    """Pods of the wanted revision whose engine is not the wanted one."""
    for pod in world.pods:
        state = pod.model(endpoint.engine_name)
        mine = state.ready and pod.started and pod.revision == pool.revision
        if mine and state.spec_hash != revisions.engine_hash(endpoint):
            yield Trouble(
                "RendererSkew",
                f"pod {pod.name} is new and still runs another {endpoint.engine_name} than is wanted; the pool's image"
                " and the operator are of versions that don't go together: upgrade the older one",
            )


def _weights(
    world: World, pool: Pool, decided: plan.Plan, endpoint: api.LLMEndpoint, trouble: Trouble | None
) -> Condition:
    if endpoint.spec.model is None or endpoint.spec.model.repo is None:
        return Condition(True, "NotDownloaded", "its weights do not come from the Hub")
    if commit := revisions.resolved(endpoint):
        return Condition(True, "Downloaded", f"{endpoint.spec.model.repo} at {commit}")
    holding = decided.aim.holding
    if holding is not None and _is_rolled(decided, endpoint) and holding.reason != "RolledBack":
        return _no(world.refused or holding)
    for pod in world.pods:
        told = pod.weights.get(endpoint.name) or pod.weights.get("") or {}
        if "reason" in told:
            return Condition(False, told["reason"], told.get("message", ""))
    if not pool.downloads and any(_serves(pod, endpoint) for pod in world.pods):
        return Condition(True, "OnVolume", "the pool downloads nothing; its volume has them")
    if trouble is not None and not any(pod.started for pod in world.pods):
        return _no(trouble)
    return Condition(False, "Downloading", "the pool's pods are getting them")


def _loaded(
    world: World, pool: Pool, endpoint: api.LLMEndpoint, loaded: Sequence[Pod], trouble: Trouble | None
) -> Condition:
    wanted, pods = pool.replicas, world.pods
    told = f"{len(loaded)} of {wanted} pods hold it as it is wanted"
    if loaded and len(loaded) == len(pods) >= wanted:
        return Condition(True, "Loaded", told)
    if trouble is not None:
        return _no(trouble)
    if not pods:
        return Condition(
            False, "NoPods", "the pool's pods are being made" if wanted else "the pool has no pods"
        )
    rolling = any(pod.static or pod.revision != pool.revision for pod in pods)
    reason = "Rolling" if rolling else "Loading" if any(pod.started for pod in pods) else "Starting"
    stages = ((pod.name, pod.stages.get(endpoint.engine_name)) for pod in pods)
    return Condition(
        False, reason, told + "".join(f"; pod {name}: {stage}" for name, stage in stages if stage)
    )


def _ready(
    world: World,
    pool: Pool,
    endpoint: api.LLMEndpoint,
    loaded: Sequence[Pod],
    refusal: Trouble | None,
    trouble: Trouble | None,
) -> Condition:
    serving = [pod for pod in world.pods if _serves(pod, endpoint)]
    if not serving:
        return _loaded(world, pool, endpoint, (), trouble)
    if refusal is not None:
        return _former(world, serving)
    told = f"{len(serving)} of {len(world.pods)} pods serve it"
    if not any(pod in loaded for pod in serving):
        return Condition(True, "ServingFormerVersion", f"{told}, in the version before this one")
    return Condition(True, "Serving", told)


def _serves(pod: Pod, endpoint: api.LLMEndpoint) -> bool:
    """Whether a pod answers for an endpoint in any version; while a model is loaded anew, its old version does."""
    answering = (facts.READY, facts.LOADING)
    return pod.ready and all(pod.model(model).state in answering for model in revisions.hashes(endpoint))


def _former(world: World, serving: Sequence[Pod]) -> Condition:
    told = f"{len(serving)} of {len(world.pods)} pods serve it, in the last version that was accepted"
    return Condition(True, "ServingFormerVersion", told)
