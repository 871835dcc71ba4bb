"""One look at a pool: observe, plan, execute, say how it stands."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tritonllm_operator import (
    adapters,
    bodies,
    events,
    facts,
    jobs,
    kube,
    loads,
    metrics,
    names,
    plan,
    pods,
    pools,
    progress,
    refusals,
    snapshots,
    status,
    triton,
)
from tritonllm_operator.facts import Resource, World

LOG = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a pool."""

# How long a pod may take to answer before the others go on without it; less for one that was silent just now.
_PATIENCE, _LITTLE_PATIENCE, _JUST_NOW = 2.0, 0.2, 15.0
# Changes that take longer go on while the pool is looked at again: a pod that hangs delays only itself.
_STEPS_SECONDS = 2.0
_FIRST_RETRY, _LAST_RETRY = 2.0, 60.0


@dataclass(frozen=True)
class Outcome:
    """How a pool was left.

    Attributes:
        gone: there is neither a pool nor an endpoint for it.
        acted: something was changed, so it is to be looked at again at once.
        settled: everything is as wanted.
    """

    gone: bool = False
    acted: bool = False
    settled: bool = True


class Pool:
    """What is remembered of a pool between two looks. It is never needed: without it, some things are tried earlier."""

    def __init__(
        self, key: Key, api: kube.Kube, lists: snapshots.Snapshots, changed: Callable[[], None]
    ) -> None:
        """Knows nothing at first.

        Args:
            key: which pool.
            api: where it is.
            lists: of what is there.
            changed: called when a change of a model has ended.
        """
        self._namespace, self._name = key
        self._api = api
        self._lists = lists
        self._changed = changed
        self._secret = ""
        # The next look tells it, and tries again.
        self._refused: facts.Trouble | None = None
        self._strangers: set[str] = set()
        self._silent: dict[str, float] = {}
        self._attempts: dict[tuple[str, str, str], facts.Attempt] = {}
        self._tries: dict[tuple[str, str, str], int] = {}
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        # What the ConfigMap was last made to say, by the operator itself.
        self._written: facts.Files | None = None
        # The same; before the first write, what it said when it was seen first.
        self._recorded: facts.Files | None = None

    def has_written(self, resource: Resource) -> bool:
        """Whether an object is the ConfigMap as the operator itself wrote it last, so that its change is no news."""
        return (
            self._written is not None
            and resource["metadata"]["name"] == names.config_map(self._name)
            and resource["kind"] == "ConfigMap"
            and pools.files(resource) == self._written
        )

    async def reconcile(self, since: float) -> Outcome:
        """Looks at the pool and does what is to be done.

        Args:
            since: monotonic clock; what happened before is to be seen.

        Raises:
            kube.Failed: the API server does not answer, or refuses.
        """
        seen = await self._lists.get(self._namespace, since)
        world = await self._observe(seen)
        decided = plan.decide(world)
        settled = await self._tell(world, decided)
        if decided.acts:
            try:
                await self._execute(world, decided, seen)
            except kube.Failed as error:
                self._note(error)
                raise
        gone = world.pool is None and not world.endpoints
        return Outcome(gone, decided.acts, settled and not decided.waits and not self._busy)

    async def _observe(self, seen: snapshots.Snapshot) -> World:
        deployment = seen.deployments.get(self._name)
        config_map = seen.config_maps.get(self._name)
        found = pools.read(deployment) if deployment else None
        labelled = seen.pods.get(self._name, ())
        running = [pods.read(pod) for pod in self._own(found, seen, labelled)]
        if found is not None and found.managed and running:
            await self._read_secret(deployment)
            running = await asyncio.gather(*(self._ask(pod) for pod in running))
        self._forget(running)
        refused, self._refused = self._refused, None
        now = datetime.datetime.now(datetime.UTC)
        files = pools.files(config_map) if config_map else None
        self._recorded = self._recorded or files
        return World(
            namespace=self._namespace,
            name=self._name,
            now=now,
            endpoints=seen.endpoints.get(self._name, ()),
            pool=found,
            files=files,
            recorded=self._recorded,
            pods=sorted(running, key=lambda pod: pod.name),
            jobs=[
                jobs.read(job, _of_job(job, labelled), now)
                for job in seen.jobs.get(self._name, ())
                if found is not None and _owned_by(found.uid, job)
            ],
            benchmark=_benchmark(found, seen.benchmarks.get(self._name), labelled, now),
            attempts=dict(self._attempts),
            config_maps=seen.lists_for(self._name),
            refused=refused,
        )

    def _note(self, error: kube.Failed) -> None:
        if not error.ending:
            self._refused = refusals.trouble(error.status, str(error), self._name, self._namespace)

    def _own(
        self, found: facts.Pool | None, seen: snapshots.Snapshot, labelled: Sequence[Resource]
    ) -> list[Resource]:
        """The serving pods that the pool's Deployment has made: only these get the secret, and are believed."""
        serving = [pod for pod in labelled if pods.serves(pod)]
        own = pods.made_by(found.uid, seen.replica_sets.get(self._name, ()), serving) if found else []
        strangers = {pod["metadata"]["name"] for pod in serving if pod not in own}
        for name in sorted(strangers - self._strangers):
            LOG.warning(
                "pod %s/%s has the labels of pool %s and is not of its Deployment; it is ignored",
                self._namespace,
                name,
                self._name,
            )
        self._strangers = strangers
        return own

    async def _read_secret(self, deployment: Resource | None) -> None:
        annotations = (deployment or {}).get("metadata", {}).get("annotations") or {}
        name, key = annotations.get(names.API_SECRET), annotations.get(names.API_SECRET_KEY)
        if self._secret or not name or not key:
            return
        try:
            secret = await self._api.secret(self._namespace, name)
            self._secret = b64decode((secret.get("data") or {}).get(key, "")).decode().strip()
        except kube.Failed as error:
            if error.status not in (403, 404):
                raise
            # Without it, pods say no more than that they refuse an empty one.
            self._note(error)
            LOG.warning(
                "the secret %s of pool %s/%s can't be read: %s", name, self._namespace, self._name, error
            )

    async def _ask(self, pod: facts.Pod) -> facts.Pod:
        if not (pod.address and pod.running):
            return pod
        if not pod.started:
            pod = replace(pod, stages=await progress.stages(pod.address))
        now = time.monotonic()
        patience = _LITTLE_PATIENCE if now - self._silent.get(pod.name, -_JUST_NOW) < _JUST_NOW else _PATIENCE
        try:
            async with triton.Triton(pod.name, pod.address, self._secret) as asked:
                models = await asked.models(patience)
        except triton.Refused as error:
            if patience == _PATIENCE:
                self._silent[pod.name] = now
            return self._silence(pod, error.trouble)
        self._silent.pop(pod.name, None)
        for model in [model for name, model in self._busy if name == pod.name]:
            models[model] = replace(models.get(model, facts.ModelState("")), state=facts.LOADING)
        return replace(pod, models=models)

    def _silence(self, pod: facts.Pod, trouble: facts.Trouble) -> facts.Pod:
        if trouble.reason == "ModelControlDenied":
            # Next time with the Secret as it is then.
            self._secret = ""
        # One that still boots need not answer yet.
        return replace(pod, silent=trouble) if pod.started or trouble.reason == "ModelControlDenied" else pod

    def _forget(self, found: Sequence[facts.Pod]) -> None:
        alive = {pod.name for pod in found}
        self._silent = {name: since for name, since in self._silent.items() if name in alive}
        self._attempts = {key: value for key, value in self._attempts.items() if key[0] in alive}
        self._tries = {key: value for key, value in self._tries.items() if key[0] in alive}

    async def _tell(self, world: World, decided: plan.Plan) -> bool:
        """Writes the statuses that changed; the plan in them comes before its execution."""
        settled = True
        ready = {True: 0, False: 0}
        changed: list[tuple[Resource, status.Status]] = []
        for judged in decided.judged:
            found = status.build(world, decided, judged.name)
            conditions = {item["type"]: item["status"] == "True" for item in found["conditions"]}
            ready[conditions["Ready"]] += 1
            settled &= conditions["Loaded"] or not conditions["Accepted"]
            # An engine loads an adapter when its files come, and tells nobody.
            settled &= all(each["state"] in adapters.FINAL for each in found.get("adapters", ()))
            if not status.same(judged.resource.get("status") or {}, found):
                changed.append((judged.resource, found))
        for answer, count in ready.items():
            metrics.ENDPOINTS.labels(self._namespace, self._name, str(answer).lower()).set(count)
        await asyncio.gather(*(self._write(resource, found, world.now) for resource, found in changed))
        return settled

    async def _write(self, resource: Resource, found: status.Status, now: datetime.datetime) -> None:
        name = resource["metadata"]["name"]
        with contextlib.suppress(_Gone):
            await _unless_gone(self._api.apply_status(self._namespace, name, found))
            for told in events.between(resource.get("status") or {}, found):
                await _unless_gone(
                    self._api.create(kube.EVENTS, self._namespace, bodies.event(resource, told, now))
                )

    async def _execute(self, world: World, decided: plan.Plan, seen: snapshots.Snapshot) -> None:
        assert world.pool is not None
        owner = world.pool
        if decided.data is not None:
            body = bodies.config_map(self._namespace, self._name, owner, decided.data, decided.aim.marks)
            name = names.config_map(self._name)
            # Before it is sent: the event may be quicker than the answer.
            self._written = self._recorded = pools.files(body)
            written = await self._api.apply(kube.CONFIG_MAPS, self._namespace, name, body)
            if strays := bodies.strays(written, body):
                await self._api.merge(kube.CONFIG_MAPS, self._namespace, name, strays)
        for revision in decided.aim.delete_jobs:
            await self._api.delete(kube.JOBS, self._namespace, names.sync_job(self._name, revision))
        if decided.aim.start_job is not None:
            body = bodies.sync_job(seen.deployments[self._name], self._name, owner, decided.aim.start_job)
            await self._api.create(kube.JOBS, self._namespace, body)
        if decided.aim.revision is not None:
            body = bodies.revision(self._namespace, self._name, owner, decided.aim.revision)
            await self._api.apply(kube.DEPLOYMENTS, self._namespace, self._name, body)
        if decided.steps:
            addresses = {pod.name: pod.address for pod in world.pods}
            tasks = [asyncio.create_task(self._step(step, addresses[step.pod])) for step in decided.steps]
            for step, task in zip(decided.steps, tasks, strict=True):
                self._busy[step.pod, step.model] = task
            await asyncio.wait(tasks, timeout=_STEPS_SECONDS)
        # Last: where it is refused, all else is done.
        if decided.benchmark.delete:
            await self._api.delete(kube.JOBS, self._namespace, names.benchmark_job(self._name))
        if decided.benchmark.start is not None:
            body = bodies.benchmark_job(seen.deployments[self._name], owner, decided.benchmark.start)
            await self._api.create(kube.JOBS, self._namespace, body)

    async def _step(self, step: loads.Load | loads.Unload, address: str) -> None:
        verb = type(step).__name__.lower()
        outcome = "done"
        began = time.monotonic()
        try:
            async with triton.Triton(step.pod, address, self._secret) as asked:
                if isinstance(step, loads.Load):
                    await asked.load(step.model, step.config)
                else:
                    await asked.unload(step.model)
            LOG.info("%s of %s on pod %s took %.2f s", verb, step.model, step.pod, time.monotonic() - began)
        except triton.Refused as error:
            outcome = "failed"
            LOG.warning("%s of %s on pod %s failed: %s", verb, step.model, step.pod, error)
            self._failed(step, error.trouble)
        finally:
            metrics.STEPS.labels(verb, outcome).inc()
            del self._busy[step.pod, step.model]
        if outcome == "done" and isinstance(step, loads.Load):
            key = (step.pod, step.model, step.spec_hash)
            self._attempts.pop(key, None)
            self._tries.pop(key, None)
        self._changed()

    def _failed(self, step: loads.Load | loads.Unload, trouble: facts.Trouble) -> None:
        if trouble.reason == "ModelControlDenied":
            self._secret = ""
        if isinstance(step, loads.Load):
            key = (step.pod, step.model, step.spec_hash)
            tries = self._tries[key] = self._tries.get(key, 0) + 1
            wait = min(_FIRST_RETRY * 2 ** (tries - 1), _LAST_RETRY)
            now = datetime.datetime.now(datetime.UTC)
            self._attempts[key] = facts.Attempt(trouble, now + datetime.timedelta(seconds=wait))


class _Gone(Exception):
    """What was to be written about is not there any more."""


async def _unless_gone(call: Awaitable[None]) -> None:
    try:
        await call
    except kube.Failed as error:
        # An endpoint deleted meanwhile, or a namespace that ends: there is nobody left to tell.
        if error.status == 404 or error.ending:
            raise _Gone from None
        raise


def _of_job(job: Resource, found: Sequence[Resource]) -> list[Resource]:
    return [pod for pod in found if pods.controller(pod) == job["metadata"]["uid"]]


def _benchmark(
    pool: facts.Pool | None, job: Resource | None, labelled: Sequence[Resource], now: datetime.datetime
) -> facts.Benchmark | None:
    if pool is None or job is None or not _owned_by(pool.uid, job):
        return None
    return jobs.benchmark(job, _of_job(job, labelled), now)


def _owned_by(uid: str, job: Resource) -> bool:
    """Whether the operator has made a Job for a Deployment; the admission policy lets nobody else set the label."""
    labels = job["metadata"].get("labels") or {}
    return labels.get(names.MANAGED_BY) == names.FIELD_MANAGER and any(
        owner["uid"] == uid for owner in job["metadata"].get("ownerReferences") or ()
    )
