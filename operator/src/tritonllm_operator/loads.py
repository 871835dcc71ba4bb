"""Which models to load and to unload on a pod that runs, so that it holds what its revision's file says. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from tritonllm import api
from tritonllm_operator import revisions
from tritonllm_operator.facts import Pod, World


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


def steps(
    world: World,
    files: Mapping[str, Mapping[str, api.LLMEndpoint]],
    served: Container[str],
    doubtful: Container[tuple[str, str]],
) -> tuple[Load | Unload, ...]:
    """What to change on the pods, all at once. A pod that still boots loads its models itself.

    Models of endpoints that are `served` stay; no pod is changed to one that is `doubtful`, by revision and name.
    """
    return tuple(
        step
        for pod in world.pods
        if pod.started and pod.models is not None and pod.revision in files
        for step in (
            *(
                step
                for endpoint in files[pod.revision].values()
                if (pod.revision, endpoint.name) not in doubtful
                for step in _loads(world, pod, endpoint)
            ),
            *_unloads(pod, served),
        )
    )


def _loads(world: World, pod: Pod, endpoint: api.LLMEndpoint) -> Iterator[Load]:
    """Everything but the engine, which comes with its pod."""
    if not pod.model(endpoint.engine_name).ready:
        return
    hashes = revisions.hashes(endpoint)
    for model in endpoint.models[1:]:
        state, wanted = pod.model(model), hashes[model]
        if state.changing or (state.ready and state.spec_hash == wanted):
            continue
        attempt = world.attempts.get((pod.name, model, wanted))
        if attempt is None or attempt.again <= world.now:
            yield Load(pod.name, model, revisions.model_config(endpoint, model), wanted)


def _unloads(pod: Pod, served: Container[str]) -> Iterator[Unload]:
    """Models of endpoints that are gone: the pipeline first, and what it needs once it is away."""
    for model, state in (pod.models or {}).items():
        if not (state.kind and state.ready):
            continue
        endpoint = model if state.kind == "pipeline" else model.removesuffix(f"-{state.kind}")
        pipeline = pod.model(endpoint)
        ending = pipeline.ready or pipeline.changing
        if endpoint not in served and (state.kind in ("pipeline", "classifier") or not ending):
            yield Unload(pod.name, model)
