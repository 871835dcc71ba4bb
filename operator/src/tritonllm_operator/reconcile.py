"""One look at a pool: observe, plan, say how it stands, act."""

from __future__ import annotations

import asyncio
import datetime
import logging
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace

from tritonllm_operator import (
    bodies,
    facts,
    jobs,
    kube,
    names,
    objects,
    plan,
    pods,
    pools,
    refusals,
    report,
    snapshots,
    tritons,
)
from tritonllm_operator.facts import World
from tritonllm_operator.objects import Resource

LOG = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a pool."""


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
        self._tritons = tritons.Tritons(changed)
        # The next look tells it, and tries again.
        self._refused: facts.Trouble | None = None
        self._strangers: set[str] = set()
        # What the last look saw, in which version.
        self._seen: frozenset[tuple[str, str]] = frozenset()
        # What the ConfigMap was last made to say, by the operator itself.
        self._written: pools.Files | None = None
        # The same; before the first write, what it said when it was seen first.
        self._recorded: pools.Files | None = None

    def knows(self, resource: Resource) -> bool:
        """Whether a change is no news: the last look saw the object so, or the operator itself wrote it so (the ConfigMap)."""
        return objects.version(resource) in self._seen or (
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
        # Kept until the end of the pass, for the pools that were marked at the same time.
        snapshot = await self._lists.get(self._namespace, since)
        seen = snapshot.of(self._name)
        self._seen = seen.versions()
        world = await self._observe(seen)
        decided = plan.decide(world)
        settled = await report.tell(self._api, world, decided)
        if decided.acts:
            try:
                await self._act(world, decided, seen.deployment)
            except kube.Failed as error:
                self._note(error)
                raise
        gone = world.pool is None and not world.endpoints
        return Outcome(gone, decided.acts, settled and not decided.waits and not self._tritons.busy)

    async def _observe(self, seen: snapshots.Parts) -> World:
        running = [pods.read(pod) for pod in self._own(seen)]
        if seen.pool is not None and seen.pool.managed and running:
            await self._read_secret(seen.deployment)
            running = await asyncio.gather(*map(self._tritons.ask, running))
        self._tritons.forget({pod.name for pod in running})
        refused, self._refused = self._refused, None
        world = seen.world(self._namespace, self._name, datetime.datetime.now(datetime.UTC))
        self._recorded = self._recorded or world.files
        downloads, benchmark = jobs.of_pool(self._name, seen.pool, seen.jobs, seen.pods, world.now)
        return replace(
            world,
            pods=sorted(running, key=lambda pod: pod.name),
            jobs=downloads,
            benchmark=benchmark,
            attempts=dict(self._tritons.attempts),
            refused=refused,
            recorded=self._recorded,
        )

    def _note(self, error: kube.Failed) -> None:
        if not error.ending:
            self._refused = refusals.trouble(error.status, str(error), self._name, self._namespace)

    def _own(self, seen: snapshots.Parts) -> list[Resource]:
        """The serving pods that the pool's Deployment has made: only these get the secret, and are believed."""
        serving = [pod for pod in seen.pods if pods.serves(pod)]
        own = pods.made_by(seen.pool.uid, seen.replica_sets, serving) if seen.pool else []
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
        annotations = objects.annotations(deployment) if deployment else {}
        name, key = annotations.get(names.API_SECRET), annotations.get(names.API_SECRET_KEY)
        if self._tritons.secret or not name or not key:
            return
        try:
            secret = await self._api.secret(self._namespace, name)
            self._tritons.secret = b64decode((secret.get("data") or {}).get(key, "")).decode().strip()
        except kube.Failed as error:
            if error.status not in (403, 404):
                raise
            # Without it, pods say no more than that they refuse an empty one.
            self._note(error)
            LOG.warning(
                "the secret %s of pool %s/%s can't be read: %s", name, self._namespace, self._name, error
            )

    async def _act(self, world: World, decided: plan.Plan, deployment: Resource | None) -> None:
        assert world.pool is not None
        assert deployment is not None
        api, namespace, name, aim = self._api, self._namespace, self._name, decided.aim
        if decided.data is not None:
            body = bodies.config_map(deployment, decided.data, aim.marks)
            # Before it is sent: the event may be quicker than the answer.
            self._written = self._recorded = pools.files(body)
            written = await api.apply(kube.CONFIG_MAPS, namespace, names.config_map(name), body)
            if strays := bodies.strays(written, body):
                await api.merge(kube.CONFIG_MAPS, namespace, names.config_map(name), strays)
        for revision in aim.delete_jobs:
            await api.delete(kube.JOBS, namespace, names.sync_job(name, revision))
        if aim.start_job is not None:
            await api.create(kube.JOBS, namespace, bodies.sync_job(deployment, aim.start_job))
        if aim.revision is not None:
            await api.apply(kube.DEPLOYMENTS, namespace, name, bodies.revision(deployment, aim.revision))
        if decided.steps:
            await self._tritons.change(decided.steps, world.pods)
        # Last: where it is refused, all else is done.
        if decided.benchmark.delete:
            await api.delete(kube.JOBS, namespace, names.benchmark_job(name))
        if decided.benchmark.start is not None:
            body = bodies.benchmark_job(deployment, world.pool, decided.benchmark.start)
            await api.create(kube.JOBS, namespace, body)
