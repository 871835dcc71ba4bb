"""One worker for each pool: an event marks its pool dirty, and a slow resync is the net."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import NamedTuple

from tritonllm_operator import kube, names, reconcile, snapshots
from tritonllm_operator.objects import Resource
from tritonllm_operator.reconcile import Key
from tritonllm_operator.worker import Worker

# Looks at the same time; each lists, and asks all pods of its pool.
_AT_ONCE = 8
# Watches begin with lists of all that is there. The first looks wait until these have come, as they would only be looked
# at again: so long after the last event, but not for ever.
_QUIET, _LISTED_WITHIN = 0.3, 10.0


class Workers:
    """All pools of the cluster, or of the watched namespaces."""

    def __init__(self, api: kube.Kube, resync_seconds: float) -> None:
        self._api = api
        self._resync_seconds = resync_seconds
        self._lists = snapshots.Snapshots(api)
        self._workers: dict[Key, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # What was last heard of each endpoint, as far as it matters.
        self._heard: dict[Key, _Wish] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._listed = asyncio.Event()
        self._news = asyncio.Event()

    def seconds_waiting(self) -> float:
        """How long ago the pool was marked that has waited longest for the end of a pass."""
        now = time.monotonic()
        return now - min((worker.waiting or now for worker in self._workers.values()), default=now)

    def endpoint(self, resource: Resource, *, gone: bool) -> None:
        """An endpoint changed, came or went: its pool is dirty, and the one it had before.

        Its status is the operator's own word, and no news.
        """
        metadata = resource["metadata"]
        key = metadata["namespace"], metadata["name"]
        before, wish = self._heard.get(key), _Wish.of(resource)
        if gone:
            self._heard.pop(key, None)
        elif wish == before:
            return
        else:
            self._heard[key] = wish
        for pool in {wish.pool, before.pool if before else wish.pool}:
            self._heard_of((key[0], pool), resource, gone=gone)

    def part(self, resource: Resource, *, gone: bool) -> None:
        """Something of a pool changed: a pod, its Deployment, its ConfigMap, a Job; or a list of phrases."""
        metadata = resource["metadata"]
        namespace, name, pool = metadata["namespace"], metadata["name"], metadata["labels"][names.POOL]
        if resource["kind"] == "ConfigMap" and name != names.config_map(pool):
            # Whatever its labels are now, it may have been a list of phrases before: of all endpoints that name it.
            for (where, _), wish in self._heard.items():
                if where == namespace and name in wish.phrase_lists:
                    self.mark((namespace, wish.pool))
            return
        self._heard_of((namespace, pool), resource, gone=gone)

    def _heard_of(self, key: Key, resource: Resource, *, gone: bool) -> None:
        worker = self._workers.get(key)
        if gone or worker is None or not worker.pool.knows(resource):
            self.mark(key)

    def mark(self, key: Key) -> None:
        """A pool is to be looked at."""
        self._news.set()
        if key not in self._workers:
            pool = reconcile.Pool(key, self._api, self._lists, lambda: self.mark(key))
            self._workers[key] = Worker(key, pool, self._turns)
            task = asyncio.create_task(self._work(key), name=f"pool {'/'.join(key)}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._workers[key].mark()

    async def run(self) -> None:
        """Marks all pools regularly until it is stopped: the net below the watches."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        await self._until_listed()
        while True:
            await asyncio.sleep(self._resync_seconds)
            for key in list(self._workers):
                self.mark(key)

    async def stop(self) -> None:
        """Ends all work."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_listed(self) -> None:
        await self._news.wait()
        began = time.monotonic()
        while self._news.is_set() and time.monotonic() - began < _LISTED_WITHIN:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_QUIET):
                    await self._news.wait()
        self._listed.set()

    async def _work(self, key: Key) -> None:
        await self._listed.wait()
        await self._workers[key].run()
        # At once: a mark from now on is for a new one.
        del self._workers[key]


class _Wish(NamedTuple):
    """What users set on an endpoint, without its status."""

    pool: str
    uid: str
    generation: int
    ending: bool
    annotations: Mapping[str, str]
    phrase_lists: frozenset[str]

    @classmethod
    def of(cls, resource: Resource) -> _Wish:
        metadata, spec = resource["metadata"], resource.get("spec") or {}
        policy = spec.get("guardrails") or {}
        # The ConfigMaps that its rules name; of what is no valid endpoint, those that can be read.
        rules = (*(policy.get("input") or ()), *(policy.get("output") or ()))
        lists = (((rule.get("banned") or {}).get("configMapRef") or {}).get("name") for rule in rules)
        return cls(
            str(spec.get("pool", "")),
            metadata["uid"],
            metadata["generation"],
            "deletionTimestamp" in metadata,
            metadata.get("annotations") or {},
            frozenset(filter(None, lists)),
        )
