"""Which revision a pool's pods shall be of, and what has to come before: weights, and a way back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tritonllm import api
from tritonllm_operator import adapters, facts, names, revisions
from tritonllm_operator.facts import Job, Pod, Pool, Trouble, World

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
        move_to: what to write into the pod template.
        annotations: of the ConfigMap.
        start_job: as in `Plan`, like those below.
    """

    keep: frozenset[str]
    target: str | None = None
    move_to: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    start_job: str | None = None
    delete_jobs: tuple[str, ...] = ()
    holding: Trouble | None = None


def aim(
    world: World,
    pool: Pool,
    wanted: Mapping[str, api.LLMEndpoint],
    kept: Mapping[str, Mapping[str, api.LLMEndpoint]],
) -> Aim:
    """Where the pods are to go.

    Args:
        world: what was seen.
        pool: its pool.
        wanted: what the pool is to serve.
        kept: the endpoints of each revision that has a file, the pods' own among them.
    """
    files = world.files or facts.Files({})
    at = pool.revision
    keep = frozenset(
        {at, *(pod.revision for pod in world.pods)} | ({files.good} if files.good is not None else set())
    )
    marks = {names.GOOD: files.good, names.FAILED: files.failed, names.BECAUSE: files.because}
    new = revisions.new_engines(wanted, kept[at])
    former = kept.get(files.good) if files.good is not None and files.good != at else None
    if new and former is not None and not revisions.new_engines(wanted, former):
        # The edit was taken back before its roll was over, and pods that are as wanted may still be there.
        gone = tuple(job.revision for job in world.jobs)
        return Aim(keep, move_to=files.good, annotations=present(marks), delete_jobs=gone)
    if not new:
        gone = tuple(job.revision for job in world.jobs if job.revision != at)
        start, over = adapters.download(world, pool, at, wanted.values())
        gone += over
        if _complete(world, pool):
            marks = {names.GOOD: at}
            return Aim(frozenset({at}), annotations=marks, start_job=start, delete_jobs=gone)
        # Where a new pod is ready and the others have no node, the version is good, and what is missing is room.
        hopeless = pool.deadline_exceeded and not _lacks_room_only(world, pool)
        if pool.observed and hopeless and files.good in kept and files.good != at:
            marks |= {names.FAILED: at, names.BECAUSE: _why(world, at)}
            return Aim(keep, move_to=files.good, annotations=present(marks), delete_jobs=gone)
        return Aim(keep, annotations=present(marks), start_job=start, delete_jobs=gone)
    target = revisions.name(wanted, at)
    gone = tuple(job.revision for job in world.jobs if job.revision not in (at, target))
    if target == files.failed:
        holding = Trouble(
            "RolledBack",
            f"the pods with the new version did not get ready in time, so the former version was taken back:"
            f" {files.because}; correct the endpoint, or annotate the ConfigMap {names.config_map(world.name)} with"
            f" `{names.FAILED}-` to try again",
        )
        return Aim(keep, annotations=present(marks), delete_jobs=gone, holding=holding)
    download = _download(world, pool, target, [wanted[name] for name in new], kept.get(target, {}))
    return Aim(
        keep | {target},
        target=target,
        move_to=None if download.holding else target,
        annotations=present(marks),
        start_job=download.start_job,
        delete_jobs=gone + download.delete_jobs,
        holding=download.holding,
    )


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


def needed(world: World, pool: Pool, revision: str, decided: Aim, pods: Sequence[Pod]) -> frozenset[str]:
    """Endpoints that a roll to a revision would lose, did its pods get ready without them: other pods serve them.

    It is found out once, when the revision gets its file, and holds until the roll is complete; a roll to another image
    or other values, by Helm, is of the same revision, and seen by its pods of two templates. New endpoints are not among
    them, nor those that nobody serves, so that they don't keep the others from being changed.

    Args:
        world: what was seen.
        pool: its pool.
        revision: which.
        decided: where the pods are to go.
        pods: all of them, those of the chart among them.
    """
    if pool.roll_is_downtime:
        return frozenset()
    written = world.files is not None and revision in world.files.revisions
    known = world.files.needed.get(revision, frozenset()) if world.files is not None else frozenset()
    if revision == decided.annotations.get(names.GOOD):
        by_helm = revision == pool.revision and pool.updated < pool.current
        return (known or served(pods)) if by_helm else frozenset()
    return known if written else served(pods)


def served(pods: Sequence[Pod]) -> frozenset[str]:
    """Endpoints whose engine some pod has."""
    return frozenset(
        model.removesuffix("-engine")
        for pod in pods
        if pod.started
        for model, state in (pod.models or {}).items()
        if state.kind == "engine" and state.state == facts.READY
    )


def present(marks: Mapping[str, str | None]) -> dict[str, str]:
    """The annotations that are there."""
    return {key: value for key, value in marks.items() if value is not None}


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


@dataclass(frozen=True)
class _Download:
    start_job: str | None = None
    delete_jobs: tuple[str, ...] = ()
    holding: Trouble | None = None


def _download(
    world: World,
    pool: Pool,
    target: str,
    new: Sequence[api.LLMEndpoint],
    earlier: Mapping[str, api.LLMEndpoint],
) -> _Download:
    """Whether the new engines' weights have to come first, and how far that is.

    Where the volume can't be mounted beside the running pods, the new pods bring their weights themselves.
    """
    missing = [
        endpoint.name
        for endpoint in new
        if revisions.wants_download(revisions.with_commit(endpoint, earlier.get(endpoint.name)))
    ]
    if not (missing and pool.downloads and pool.shared_weights):
        return _Download()
    job = next((job for job in world.jobs if job.revision == target), None)
    waiting = Trouble(
        "WeightsDownloading",
        f"the weights of {', '.join(missing)} are being downloaded before any pod is replaced",
    )
    if job is None:
        return _Download(start_job=target, holding=waiting)
    if job.succeeded is None:
        return _Download(holding=job.trouble or waiting)
    if job.succeeded:
        return _Download()
    over = job.finished is None or world.now - job.finished >= adapters.RETRY
    return _Download(delete_jobs=(target,) if over else (), holding=_failed_download(world, job, missing))


def _failed_download(world: World, job: Job, missing: Sequence[str]) -> Trouble:
    for name in (*missing, ""):
        told = job.weights.get(name, {})
        if "reason" in told:
            return Trouble(told["reason"], told.get("message", ""))
    return job.trouble or Trouble(
        "WeightsFailed",
        f"the Job {names.sync_job(world.name, job.revision)} failed without saying why; see"
        f" `kubectl logs job/{names.sync_job(world.name, job.revision)}`",
    )
