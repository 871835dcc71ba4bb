"""Which revision a pool's pods shall be of, and what has to come before: weights, and a way back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from tritonllm_operator import adapters, facts, names, pools, revisions
from tritonllm_operator.facts import Job, Pod, Trouble, World
from tritonllm_operator.pools import Pool
from tritonllm_operator.revisions import Endpoints

# Reasons of the condition `Loaded` that tell of new pods.
_OF_PODS = (
    "LoadFailed",
    "ContainerFailed",
    "OutOfMemory",
    "ImagePull",
    "ContainerNotCreated",
    "Unschedulable",
)


@dataclass(frozen=True)
class Aim:
    """Which revision the pods shall be of.

    Attributes:
        keep: revisions whose files stay.
        target: a new revision, which needs a file.
        revision: for the Deployment's pod template, where it has to change.
        marks: of the ConfigMap, as in `pools.Files`.
        start_job: the revision whose weights a Job is to bring.
        delete_jobs: revisions whose Jobs are of no use any more.
        holding: why a roll has not begun or was taken back, or the first pods wait.
    """

    keep: frozenset[str] = frozenset()
    target: str | None = None
    revision: str | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    start_job: str | None = None
    delete_jobs: tuple[str, ...] = ()
    holding: Trouble | None = None


def aim(world: World, pool: Pool, wanted: Endpoints, kept: Mapping[str, Endpoints]) -> Aim:
    """Where the pods are to go, with `wanted` to serve and the endpoints `kept` of each revision, their own among them."""
    files = world.files or pools.Files({})
    at, good = pool.revision, files.good
    keep: frozenset[str] = frozenset(
        {at, *(pod.revision for pod in world.pods)} | ({good} if good is not None else set())
    )
    stay = Aim(keep, marks=files.marks)
    new = revisions.new_engines(wanted, kept[at])
    former = kept.get(good) if good is not None and good != at else None
    if not new:
        stay = replace(stay, delete_jobs=_jobs_but(world, at))
        return _finish(world, pool, wanted, stay, can_go_back=former is not None)
    if former is not None and not revisions.new_engines(wanted, former):
        # The edit was taken back before its roll was over, and pods that are as wanted may still be there.
        return replace(stay, revision=good, delete_jobs=_jobs_but(world))
    target = revisions.name(wanted, at)
    stay = replace(stay, delete_jobs=_jobs_but(world, at, target))
    if target == files.marks.get(names.FAILED):
        holding = Trouble(
            "RolledBack",
            f"the pods with the new version did not get ready in time, so the former version was taken back:"
            f" {files.marks.get(names.BECAUSE)}; correct the endpoint, or annotate the ConfigMap"
            f" {names.config_map(world.name)} with `{names.FAILED}-` to try again",
        )
        return replace(stay, holding=holding)
    earlier = kept.get(target, {})
    missing = [
        name
        for name in new
        if revisions.wants_download(revisions.with_commit(wanted[name], earlier.get(name)))
    ]
    going = replace(stay, keep=keep | {target}, target=target)
    # Where the volume can't be mounted beside the running pods, the new pods bring their weights themselves.
    if missing and pool.downloads_ahead:
        return _after_download(world, going, target, missing)
    return replace(going, revision=target)


def _jobs_but(world: World, *revisions: str) -> tuple[str, ...]:
    return tuple(job.revision for job in world.jobs if job.revision not in revisions)


def _finish(world: World, pool: Pool, wanted: Endpoints, stay: Aim, *, can_go_back: bool) -> Aim:
    """The pods' template is the right one: the roll to it is complete, goes on, or is taken back."""
    at = pool.revision
    start, over = adapters.download(world, pool, at, wanted.values())
    stay = replace(stay, start_job=start, delete_jobs=stay.delete_jobs + over)
    if _complete(world, pool):
        return replace(stay, keep=frozenset({at}), marks={names.GOOD: at})
    # Where a new pod is ready and the others have no node, the version is good, and what is missing is room.
    hopeless = pool.given_up is not None and not _lacks_room_only(world, pool)
    if can_go_back and pool.observed and hopeless:
        failed = {names.FAILED: at, names.BECAUSE: _why(world, at)}
        return replace(stay, revision=stay.marks[names.GOOD], marks={**stay.marks, **failed}, start_job=None)
    return stay


def is_open(pool: Pool, decided: Aim) -> bool:
    """Whether a roll is not over yet, that of the chart among them."""
    at_good = decided.marks.get(names.GOOD) == pool.revision
    return decided.revision is not None or not at_good or pool.updated < pool.current


def _lacks_room_only(world: World, pool: Pool) -> bool:
    new = [pod for pod in world.pods if pod.revision == pool.revision]
    return any(pod.ready for pod in new) and all(
        pod.ready or _unplaced(pod) or _placed_late(pod, pool) for pod in new
    )


def _placed_late(pod: Pod, pool: Pool) -> bool:
    """Whether a pod that starts got its node after the deadline, which then tells nothing about it."""
    return (
        pod.trouble is None
        and pod.placed is not None
        and pool.given_up is not None
        and pod.placed >= pool.given_up
    )


def _unplaced(pod: Pod) -> bool:
    return pod.trouble is not None and pod.trouble.reason == "Unschedulable"


def _complete(world: World, pool: Pool) -> bool:
    """Whether a roll is over: every pod is of the new revision, and ready or without a node.

    An autoscaler that wants more pods than the cluster takes must not leave a roll open for ever.
    """
    of_revision = all(pod.revision == pool.revision for pod in world.pods)
    if pool.rolled_out:
        return of_revision
    ready = [pod for pod in world.pods if pod.ready]
    unplaced = [pod for pod in world.pods if _unplaced(pod)]
    return (
        pool.observed
        and pool.updated == pool.current > len(unplaced)
        and len(ready) + len(unplaced) == len(world.pods) == pool.current
        and of_revision
    )


def needed(
    world: World, pool: Pool, decided: Aim, files: Mapping[str, Set[str]], pods: Sequence[Pod]
) -> dict[str, frozenset[str]]:
    """Endpoints that a roll to each revision would lose, did its pods get ready without them: other pods serve them.

    It is found out once, when the revision gets its file, and holds until the roll is complete; a roll to another image
    or other values, by Helm, is of the same revision, and seen by its pods of two templates. New endpoints are not among
    them, nor those that no pod serves, so that they don't keep the others from being changed. The pods are all of them,
    those of the chart, too.
    """
    if pool.roll_is_downtime:
        return {}
    before = world.files or pools.Files({})
    found: dict[str, frozenset[str]] = {}
    for revision, endpoints in files.items():
        known = before.needed.get(revision, frozenset())
        if revision == decided.marks.get(names.GOOD):
            by_helm = revision == pool.revision and pool.updated < pool.current
            lost = (known or served(pods)) if by_helm else frozenset()
        else:
            lost = known if revision in before.revisions else served(pods)
        if lost & endpoints:
            found[revision] = lost & endpoints
    return found


def served(pods: Iterable[Pod]) -> frozenset[str]:
    """Endpoints whose engine some pod has."""
    return frozenset(
        model.removesuffix("-engine")
        for pod in pods
        if pod.started
        for model, state in (pod.models or {}).items()
        if state.kind == "engine" and state.ready
    )


def _why(world: World, revision: str) -> str:
    """What the pods of a revision say of themselves, or what was last seen of it, in one sentence."""
    for pod in world.pods:
        if pod.revision != revision:
            continue
        if pod.trouble is not None:
            return pod.trouble.message
        for model, state in sorted((pod.models or {}).items()):
            if state.failed:
                return f"{model} of pod {pod.name}: {state.reason}"
    # A container that has just been started again says nothing yet.
    for endpoint in world.endpoints:
        for condition in endpoint.get("status", {}).get("conditions", ()):
            if condition["type"] == "Loaded" and condition.get("reason") in _OF_PODS:
                return str(condition["message"])
    return "they said nothing of why"


def _after_download(world: World, going: Aim, target: str, missing: Sequence[str]) -> Aim:
    """A roll that begins once a Job has brought the weights of some endpoints."""
    job = world.job(target)
    if job is not None and job.succeeded:
        return replace(going, revision=target)
    if job is not None and job.succeeded is False:
        over = (target,) if job.can_be_retried(world.now) else ()
        failed = _failed_download(world, job, missing)
        return replace(going, delete_jobs=going.delete_jobs + over, holding=failed)
    waiting = Trouble(
        "WeightsDownloading",
        f"the weights of {', '.join(missing)} are being downloaded before any pod is replaced",
    )
    if job is None:
        return replace(going, start_job=target, holding=waiting)
    return replace(going, holding=job.trouble or waiting)


def _failed_download(world: World, job: Job, missing: Sequence[str]) -> Trouble:
    return (
        facts.problem(job.weights, *missing, "")
        or job.trouble
        or Trouble(
            "WeightsFailed",
            f"the Job {names.sync_job(world.name, job.revision)} failed without saying why; see"
            f" `kubectl logs job/{names.sync_job(world.name, job.revision)}`",
        )
    )
