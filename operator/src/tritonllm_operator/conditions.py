"""How an endpoint stands: its conditions, and the first cause of what is not as it should be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tritonllm import api
from tritonllm_operator import accept, facts, plan, revisions, rolls
from tritonllm_operator.facts import Pod, Trouble, World
from tritonllm_operator.pools import Pool


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
    """The conditions of an endpoint by type, as its status has them, with the pods that have it as it is wanted."""
    refusal, endpoint = judged.refusal, decided.wanted.get(judged.name)
    accepted = _no(refusal) if refusal else Condition(True, "Accepted", "")
    if endpoint is None or world.pool is None:
        away = Condition(False, "NotAccepted", f"nothing serves it: {accepted.message}")
        # The version that they serve can't be read here: a newer operator has written it.
        serving = [pod for pod in world.pods if pod.ready and judged.name in rolls.served([pod])]
        ready = _former(world, serving) if serving else away
        return {"Accepted": accepted, "WeightsReady": away, "Loaded": away, "Ready": ready}
    rolled = decided.decisions[judged.name].action == "Roll"
    # Before there are files, all endpoints wait.
    holding = decided.aim.holding if rolled or not decided.aim.keep else None
    view = _View(world, world.pool, endpoint, rolled, holding)
    trouble = world.refused or next(view.causes(), None)
    serving = [pod for pod in world.pods if _serves(pod, endpoint)]
    if not serving:
        ready = view.loaded((), trouble)
    elif refusal is not None:
        ready = _former(world, serving)
    elif any(pod in loaded for pod in serving):
        ready = Condition(True, "Serving", _count(world, serving))
    else:
        ready = _former(world, serving, "the version before this one")
    return {
        "Accepted": accepted,
        "WeightsReady": view.weights(trouble, serving),
        "Loaded": view.loaded(loaded, trouble),
        "Ready": ready,
    }


@dataclass(frozen=True)
class _View:
    """An endpoint in its pool.

    Attributes:
        rolled: whether it is one of those that a roll is for.
        holding: why that roll has not begun or was taken back, or the first pods wait.
    """

    world: World
    pool: Pool
    endpoint: api.LLMEndpoint
    rolled: bool
    holding: Trouble | None

    def causes(self) -> Iterator[Trouble]:
        """What is not as it should be, the nearest to the cause first."""
        if self.holding is not None:
            yield self.holding
        mine = revisions.hashes(self.endpoint)
        for (pod, model, spec_hash), attempt in sorted(self.world.attempts.items()):
            if mine.get(model) == spec_hash:
                yield Trouble(attempt.trouble.reason, f"{model} on pod {pod}: {attempt.trouble.message}")
        for pod in self.world.pods:
            yield from filter(None, (pod.trouble, pod.silent))
            told = pod.weights.get(self.endpoint.name, {})
            if told.get("reason") == facts.UNREADABLE:
                yield Trouble(
                    "PoolTooOld",
                    f"pod {pod.name} can't read it: {told.get('message', '')}; its image is of another version than the"
                    f" operator: upgrade the pool {self.world.name}",
                )
            for model in mine:
                if (state := pod.model(model)).failed:
                    yield Trouble("LoadFailed", f"{model} on pod {pod.name}: {state.reason}")
        if self.pool.not_created:
            yield Trouble("PodNotCreated", f"Kubernetes cannot create a pod: {self.pool.not_created}")
        yield from self._neighbours()
        # Pods of before have another engine as long as its roll has not begun.
        if not self.rolled and self.pool.rolled_out:
            yield from self._skews()

    def _neighbours(self) -> Iterator[Trouble]:
        """Endpoints without which new pods don't get ready, and all that comes with them waits."""
        needed = self.world.files.needed if self.world.files else {}
        for pod in self.world.pods:
            if pod.ready:
                continue
            for model, state in sorted((pod.models or {}).items()):
                if state.failed and model.removesuffix("-engine") in needed.get(pod.revision, ()):
                    yield Trouble(
                        "LoadFailed",
                        f"{model} on pod {pod.name}: {state.reason}; no new pod gets ready without it, as the old ones"
                        " serve it: correct it, or delete it",
                    )

    def _skews(self) -> Iterator[Trouble]:
        """Pods of the wanted revision whose engine is not the wanted one."""
        engine = self.endpoint.engine_name
        for pod in self.world.pods:
            state = pod.model(engine)
            mine = state.ready and pod.started and pod.revision == self.pool.revision
            if mine and state.spec_hash != revisions.engine_hash(self.endpoint):
                yield Trouble(
                    "RendererSkew",
                    f"pod {pod.name} is new and still runs another {engine} than is wanted; the pool's image and the"
                    " operator are of versions that don't go together: upgrade the older one",
                )

    def weights(self, trouble: Trouble | None, serving: Sequence[Pod]) -> Condition:
        """Whether they are there, with the first cause of what is wrong and the pods that serve the endpoint."""
        model = self.endpoint.spec.model
        if model is None or model.repo is None:
            return Condition(True, "NotDownloaded", "its weights do not come from the Hub")
        if commit := revisions.resolved(self.endpoint):
            return Condition(True, "Downloaded", f"{model.repo} at {commit}")
        if self.holding is not None and self.holding.reason != "RolledBack":
            return _no(self.world.refused or self.holding)
        for pod in self.world.pods:
            mine = self.endpoint.name
            if failed := facts.problem(pod.weights, mine if pod.weights.get(mine) else ""):
                return _no(failed)
        if not self.pool.downloads and serving:
            return Condition(True, "OnVolume", "the pool downloads nothing; its volume has them")
        if trouble is not None and not any(pod.started for pod in self.world.pods):
            return _no(trouble)
        return Condition(False, "Downloading", "the pool's pods are getting them")

    def loaded(self, loaded: Sequence[Pod], trouble: Trouble | None) -> Condition:
        """Whether all pods are among those that have it as it is wanted, with the first cause of what is wrong."""
        wanted, pods = self.pool.replicas, self.world.pods
        told = f"{len(loaded)} of {wanted} pods hold it as it is wanted"
        if loaded and len(loaded) == len(pods) >= wanted:
            return Condition(True, "Loaded", told)
        if trouble is not None:
            return _no(trouble)
        if not pods:
            return Condition(
                False, "NoPods", "the pool's pods are being made" if wanted else "the pool has no pods"
            )
        rolling = any(pod.static or pod.revision != self.pool.revision for pod in pods)
        reason = "Rolling" if rolling else "Loading" if any(pod.started for pod in pods) else "Starting"
        stages = ((pod.name, pod.stages.get(self.endpoint.engine_name)) for pod in pods)
        return Condition(
            False, reason, told + "".join(f"; pod {name}: {stage}" for name, stage in stages if stage)
        )


def _no(trouble: Trouble) -> Condition:
    return Condition(False, trouble.reason, trouble.message)


def _serves(pod: Pod, endpoint: api.LLMEndpoint) -> bool:
    """Whether a pod answers for an endpoint in any version; while a model is reloaded, its old version does."""
    answering = (facts.READY, facts.LOADING)
    return pod.ready and all(pod.model(model).state in answering for model in revisions.hashes(endpoint))


def _count(world: World, serving: Sequence[Pod]) -> str:
    return f"{len(serving)} of {len(world.pods)} pods serve it"


def _former(
    world: World, serving: Sequence[Pod], version: str = "the last version that was accepted"
) -> Condition:
    return Condition(True, "ServingFormerVersion", f"{_count(world, serving)}, in {version}")
