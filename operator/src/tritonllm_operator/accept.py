"""Which endpoints a pool takes, and why it does not take the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tritonllm import allow, api, files
from tritonllm_operator import names, objects, releases, revisions
from tritonllm_operator.facts import Trouble, World
from tritonllm_operator.objects import Resource
from tritonllm_operator.pools import Pool

# A ConfigMap holds 1 MiB (https://kubernetes.io/docs/concepts/configuration/configmap/), and up to three revisions: the last
# good one, the pods' own after an unfinished roll, and the next.
MOST_BYTES = 1000 * 1024
_REVISIONS = 3


@dataclass(frozen=True)
class Judged:
    """An endpoint after it was looked at.

    Attributes:
        resource: as the API server has it.
        endpoint: validated; None where it is refused.
        refusal: why it is refused.
        rehearsal: its owner wants to see the plan only.
    """

    resource: Resource
    endpoint: api.LLMEndpoint | None = None
    refusal: Trouble | None = None
    rehearsal: bool = False

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.resource["metadata"]["name"]


def judge(world: World, running: revisions.Endpoints) -> list[Judged]:
    """Looks at every endpoint of a pool.

    Where all can't fit, those that run already come first, then the older ones: none is displaced by a newer one.
    """
    valid = [_valid(resource, world, running) for resource in world.endpoints]
    taken: dict[str, api.LLMEndpoint] = {}
    refusals: dict[str, Trouble] = {}
    for judged in sorted(valid, key=lambda item: item.name not in running):
        if judged.endpoint is None or world.pool is None:
            continue
        refusal = _fits(judged.endpoint, world.pool, taken)
        if refusal is not None:
            refusals[judged.name] = refusal
            # What runs goes on running, so it keeps its share.
            if judged.name in running:
                taken[judged.name] = running[judged.name]
        else:
            taken[judged.name] = judged.endpoint
    # Rules that ask a classifier which the pool does not have.
    lacking = {
        name: Trouble("ClassifierNotFound", f"{path}: {message}")
        for name, path, message in files.unresolved(taken)
    }
    refusals = lacking | refusals
    return [
        Judged(item.resource, None, refusals[item.name], item.rehearsal) if item.name in refusals else item
        for item in valid
    ]


def _valid(resource: Resource, world: World, running: revisions.Endpoints) -> Judged:
    pool, name = world.pool, world.name
    annotations = objects.annotations(resource)
    rehearsal = annotations.get(names.PLAN_ONLY) == "true"

    def refused(reason: str, message: str) -> Judged:
        return Judged(resource, None, Trouble(reason, message), rehearsal)

    if pool is None:
        return refused(
            "PoolNotFound",
            f"spec.pool: there is no pool {name} in this namespace; install one with"
            f" `helm install {name} charts/tritonllm-pool --set operator.enabled=true`, or name another one",
        )
    if not pool.managed:
        return refused(
            "PoolNotManaged",
            f"spec.pool: {name} boots from its chart's own endpoints; run `helm upgrade {name} charts/tritonllm-pool"
            " --reset-then-reuse-values --set operator.enabled=true`",
        )
    endpoint, problems = files.resource(
        resource, vllm_version=pool.vllm_version or None, config_maps=world.config_maps
    )
    if endpoint is None:
        text = "; ".join(": ".join(filter(None, problem)) for problem in problems)
        arguments = all(path.startswith("spec.engine.args") for path, _ in problems)
        lists = all(path.endswith(".configMapRef") for path, _ in problems)
        return refused(
            "InvalidEngineArgs" if arguments else "InvalidPhraseList" if lists else "InvalidSpec", text
        )
    if unknown := releases.unknown(revisions.resource(endpoint)["spec"], pool.version):
        return refused(
            "PoolTooOld",
            f"{', '.join(unknown)}: the pods of the pool are of version {pool.version}, which does not know"
            f" {'it' if len(unknown) == 1 else 'them'}; run `helm upgrade {name} charts/tritonllm-pool"
            f" --reset-then-reuse-values`, or remove {'it' if len(unknown) == 1 else 'them'}",
        )
    if denied := allow.problems(endpoint, pool.allow):
        return refused("NotAllowed", "; ".join(": ".join(problem) for problem in denied))
    requested = revisions.requested(endpoint, annotations.get(names.RESOLVE), running.get(endpoint.name))
    return Judged(resource, requested, rehearsal=rehearsal)


def _fits(endpoint: api.LLMEndpoint, pool: Pool, others: Mapping[str, api.LLMEndpoint]) -> Trouble | None:
    limits = endpoint.spec.limits
    if pool.drain_seconds is not None and limits.request_timeout_seconds > pool.drain_seconds:
        return Trouble(
            "TimeoutTooLong",
            f"spec.limits.requestTimeoutSeconds: {limits.request_timeout_seconds:g} is longer than the"
            f" {pool.drain_seconds:g} s that a pod of the pool gets to end; lower it, or raise the pool's drain.seconds",
        )
    image = endpoint.spec.model and endpoint.spec.model.image
    if image and image not in pool.images:
        return Trouble(
            "ImageNotMounted",
            f"spec.model.image: the pods of the pool do not mount {image}; add it to the pool's weights.images",
        )
    wanted = max(endpoint.spec.engine.gpus, *(index + 1 for index in endpoint.spec.engine.devices), 0)
    if wanted > pool.gpus and (pool.gpus or wanted > 1):
        sizes = " × ".join(endpoint.spec.engine.definition.parallel_sizes)
        return Trouble(
            "NotEnoughGPUs",
            f"spec.engine.args: {sizes}, or device_ids, needs {wanted} GPUs, and a pod of the pool has"
            f" {pool.gpus}; lower them, or raise the pool's gpu.count",
        )
    if pool.gpus:
        shares = {name: _memory(other, pool) for name, other in others.items()}
        shares[endpoint.name] = _memory(endpoint, pool)
        engines = {each.name: each.spec.engine for each in (*others.values(), endpoint)}
        for gpu in endpoint.spec.engine.devices:
            sharing = {name: shares[name] for name, engine in engines.items() if gpu in engine.devices}
            if sum(sharing.values()) > 1 + 1e-9:
                each = ", ".join(f"{name} {share:g}" for name, share in sharing.items())
                return Trouble(
                    "MemoryBudget",
                    f"spec.engine.args.gpu_memory_utilization: the engines on GPU {gpu} take {sum(sharing.values()):g}"
                    f" of its memory ({each}), and there is 1; lower them, set engine.args.device_ids to other GPUs of"
                    " the pod, or use another pool",
                )
    size = _REVISIONS * sum(map(revisions.size, (*others.values(), endpoint)))
    if size > MOST_BYTES:
        return Trouble(
            "TooLarge",
            f"spec: three revisions of the pool's endpoints would take {size} bytes, and {MOST_BYTES} fit; shorten the"
            " lists of phrases, or use another pool",
        )
    return None


def _memory(endpoint: api.LLMEndpoint, pool: Pool) -> float:
    engine = endpoint.spec.engine
    return engine.definition.memory_share(engine.args, pool.vllm_version or None) or 0.0
