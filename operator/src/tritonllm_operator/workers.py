"""One worker for each pool: an event marks its pool dirty, a burst of them is one look, a slow resync is the net."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from tritonllm_operator import kube, metrics, names, reconcile, snapshots
from tritonllm_operator.facts import Resource
from tritonllm_operator.reconcile import Key

LOG = logging.getLogger(__name__)

# Looks at the same time; each lists, and asks all pods of its pool.
_AT_ONCE = 8
# Between two looks at a pool on its way to what is wanted: soon at first, then less often, but within the 10 s in
# which a cause is to be seen.
_FIRST_LOOK, _LAST_LOOK = 0.25, 5.0
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0
# Watches begin, and break, all at about the same time: one look at everything is enough for them.
_TOGETHER = 0.3
# How long the first look waits for them: what comes as they begin would only make it look twice.
_WATCHES_SECONDS = 5.0


class Workers:
    """All pools of the cluster, or of the watched namespaces."""

    def __init__(self, api: kube.Kube, namespaces: tuple[str, ...], resync_seconds: float) -> None:
        self._api = api
        self._namespaces = namespaces or ("",)
        self._resync_seconds = resync_seconds
        self._lists = snapshots.Snapshots(api)
        self._dirty: dict[Key, float] = {}
        self._wake: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        # Of each endpoint, its pool and version.
        self._homes: dict[Key, tuple[str, str]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._listed = {namespace: asyncio.Event() for namespace in self._namespaces}
        self._watching: asyncio.Task[None] | None = None
        # When the last resync of each namespace ended, well or not.
        self._resynced = dict.fromkeys(self._namespaces, time.monotonic())

    def seconds_since_resync(self) -> float:
        """How long ago the last resync ended, well or not, of the namespace where that is longest ago."""
        return time.monotonic() - min(self._resynced.values())

    def endpoint(self, resource: Resource) -> None:
        """An endpoint changed, came or went: its pool is dirty, and the one it had before."""
        metadata = resource["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        pool = str((resource.get("spec") or {}).get("pool", ""))
        before, version = self._homes.get((namespace, name), (pool, ""))
        if version == metadata["resourceVersion"]:
            # Listed and watched at the same time, as all are when the operator starts: it is heard of already.
            return
        if "deletionTimestamp" in metadata:
            self._homes.pop((namespace, name), None)
        else:
            self._homes[namespace, name] = pool, metadata["resourceVersion"]
        for each in {before, pool}:
            self.mark((namespace, each))

    def part(self, resource: Resource) -> None:
        """Something of a pool changed: a pod, its Deployment, its ConfigMap, a Job."""
        metadata = resource["metadata"]
        self.mark((metadata["namespace"], metadata["labels"][names.POOL]))

    def mark(self, key: Key) -> None:
        """A pool is to be looked at."""
        # The latest mark counts: what is looked at must be newer than that.
        self._dirty[key] = time.monotonic()
        if key not in self._tasks:
            self._wake[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._work(key), name=f"pool {'/'.join(key)}")
        self._wake[key].set()

    async def run(self) -> None:
        """Follows the namespaces until it is stopped."""
        self._watching = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._follow(namespace))

    async def stop(self) -> None:
        """Ends all work."""
        tasks = [*filter(None, [self._watching]), *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, namespace: str) -> None:
        missed = asyncio.Event()
        begun: dict[kube.Kind, asyncio.Event] = {kind: asyncio.Event() for kind in kube.OF_POOLS}

        async def watch(kind: kube.Kind) -> None:
            def lost() -> None:
                begun[kind].set()
                missed.set()

            await kube.watch_for_ever(self._api, kind, namespace, names.POOL, self.part, lost)

        async with asyncio.TaskGroup() as group:
            for kind in kube.OF_POOLS:
                group.create_task(watch(kind))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCHES_SECONDS):
                    for event in begun.values():
                        await event.wait()
            group.create_task(self._resync(namespace, missed))

    async def _resync(self, namespace: str, missed: asyncio.Event) -> None:
        failures = 0
        while True:
            await asyncio.sleep(_TOGETHER)
            missed.clear()
            try:
                await self._mark_all(namespace)
                failures, wait = 0, self._resync_seconds
                metrics.LAST_RESYNC.labels(namespace).set_to_current_time()
            except kube.Failed as error:
                LOG.warning("pools can't be listed, which is tried again: %s", error)
                failures, wait = failures + 1, _retry(failures)
            self._resynced[namespace] = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await missed.wait()

    async def _mark_all(self, namespace: str) -> None:
        for kind, selector, seen in (
            (kube.ENDPOINTS, "", self.endpoint),
            (kube.DEPLOYMENTS, names.POOL, self.part),
        ):
            for resource in await self._api.list(kind, namespace, selector):
                seen(resource)
        for key in list(self._tasks):
            if namespace in ("", key[0]):
                self.mark(key)
        self._listed[namespace].set()

    async def _work(self, key: Key) -> None:
        pool = reconcile.Pool(key, self._api, self._lists, lambda: self.mark(key))
        failures = looks = 0
        wait: float | None = None
        await self._listed["" if "" in self._listed else key[0]].wait()
        while True:
            if await self._marked(key, wait):
                looks = 0
            since = self._dirty.pop(key, time.monotonic())
            outcome = await self._look(pool, key, since)
            if outcome is None:
                failures, wait = failures + 1, _retry(failures)
                continue
            failures = 0
            if outcome.gone and key not in self._dirty:
                del self._tasks[key], self._wake[key]
                return
            looks += 1
            settled = outcome.settled and not outcome.acted
            wait = None if settled else min(_FIRST_LOOK * 1.5 ** (looks - 1), _LAST_LOOK)
            if outcome.acted and looks == 1:
                wait = 0.0

    async def _marked(self, key: Key, wait: float | None) -> bool:
        """Waits for a mark, or for so many seconds."""
        try:
            async with asyncio.timeout(wait):
                await self._wake[key].wait()
        except TimeoutError:
            return False
        self._wake[key].clear()
        return True

    async def _look(self, pool: reconcile.Pool, key: Key, since: float) -> reconcile.Outcome | None:
        async with self._turns:
            began = time.monotonic()
            try:
                outcome = await pool.reconcile(since)
            except kube.Failed as error:
                if error.ending:
                    # All of the pool goes with its namespace; events tell when.
                    metrics.PASSES.labels("ending").inc()
                    return reconcile.Outcome()
                LOG.warning("pool %s/%s can't be looked after, and is tried again: %s", *key, error)
                metrics.PASSES.labels("refused").inc()
                return None
            except Exception:
                LOG.exception("a bug: the look at pool %s/%s ended with", *key)
                metrics.PASSES.labels("bug").inc()
                return None
            metrics.PASSES.labels("acted" if outcome.acted else "unchanged").inc()
            metrics.PASS_SECONDS.observe(time.monotonic() - began)
            return outcome


def _retry(failures: int) -> float:
    """Seconds until the next try, after so many failures before this one."""
    return min(_FIRST_RETRY * 2**failures, _LAST_RETRY) * random.uniform(0.5, 1)
