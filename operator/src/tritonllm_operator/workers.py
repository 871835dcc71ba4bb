"""One worker for each pool: an event marks its pool dirty, a burst of them is one look, a slow resync is the net."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tritonllm_operator import kube, metrics, names, reconcile, snapshots
from tritonllm_operator.facts import Resource
from tritonllm_operator.reconcile import Key

LOG = logging.getLogger(__name__)

# Looks at the same time; each lists, and asks all pods of its pool.
_AT_ONCE = 8
# Between two looks at a pool on its way to what is wanted: soon at first, then less often, but within the 10 s in
# which a cause is to be seen. What has not come to its end after ten minutes can wait longer; events are looked at at once.
_FIRST_LOOK, _LAST_LOOK, _LATER_LOOK = 0.25, 5.0, 30.0
_LATER = 120
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0
# Watches begin with lists of all that is there. The first looks wait until these have come, as they would only be looked
# at again: so long after the last event, but not for ever.
_QUIET, _LISTED_WITHIN = 0.3, 10.0


@dataclass(frozen=True)
class _Wish:
    """What users set on an endpoint, without its status."""

    pool: str
    uid: str
    generation: int
    ending: bool
    annotations: Mapping[str, str]
    phrase_lists: frozenset[str]

    @classmethod
    def of(cls, resource: Resource) -> _Wish:
        metadata = resource["metadata"]
        return cls(
            str((resource.get("spec") or {}).get("pool", "")),
            metadata["uid"],
            metadata["generation"],
            "deletionTimestamp" in metadata,
            metadata.get("annotations") or {},
            frozenset(_named_lists(resource)),
        )


class Workers:
    """All pools of the cluster, or of the watched namespaces."""

    def __init__(self, api: kube.Kube, resync_seconds: float) -> None:
        self._api = api
        self._resync_seconds = resync_seconds
        self._lists = snapshots.Snapshots(api)
        self._dirty: dict[Key, float] = {}
        self._wake: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._pools: dict[Key, reconcile.Pool] = {}
        # What was last heard of each endpoint, as far as it matters.
        self._heard: dict[Key, _Wish] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._listed = asyncio.Event()
        self._resyncing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        # The first mark of each pool that no pass has answered yet.
        self._waiting: dict[Key, float] = {}

    def seconds_waiting(self) -> float:
        """How long ago the pool was marked that has waited longest for the end of a pass."""
        now = time.monotonic()
        return now - min(self._waiting.values(), default=now)

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
            self.mark((key[0], pool))

    def part(self, resource: Resource, *, gone: bool) -> None:
        """Something of a pool changed: a pod, its Deployment, its ConfigMap, a Job; or a list of phrases."""
        metadata = resource["metadata"]
        if resource["kind"] == "ConfigMap" and metadata["name"] != names.config_map(
            metadata["labels"][names.POOL]
        ):
            # Whatever its labels are now: it may have been a list before.
            self._list(metadata["namespace"], metadata["name"])
            return
        key = metadata["namespace"], metadata["labels"][names.POOL]
        if gone or key not in self._pools or not self._pools[key].has_written(resource):
            self.mark(key)

    def _list(self, namespace: str, name: str) -> None:
        """A list of phrases changed: the pools are dirty whose endpoints name it."""
        for (where, _), wish in self._heard.items():
            if where == namespace and name in wish.phrase_lists:
                self.mark((namespace, wish.pool))

    def mark(self, key: Key) -> None:
        """A pool is to be looked at."""
        # The latest mark counts: what is looked at must be newer than that.
        self._dirty[key] = time.monotonic()
        self._waiting.setdefault(key, self._dirty[key])
        self._news.set()
        if key not in self._tasks:
            self._wake[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._work(key), name=f"pool {'/'.join(key)}")
        self._wake[key].set()

    async def run(self) -> None:
        """Marks all pools regularly until it is stopped: the net below the watches."""
        self._resyncing = asyncio.current_task()
        await self._until_listed()
        while True:
            await asyncio.sleep(self._resync_seconds)
            for key in list(self._tasks):
                self.mark(key)

    async def stop(self) -> None:
        """Ends all work."""
        tasks = [*filter(None, [self._resyncing]), *self._tasks.values()]
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
        pool = self._pools[key] = reconcile.Pool(key, self._api, self._lists, lambda: self.mark(key))
        failures = looks = 0
        wait: float | None = None
        await self._listed.wait()
        while True:
            if await self._marked(key, wait):
                looks = 0
            since = self._dirty.pop(key, time.monotonic())
            outcome = await self._look(pool, key, since)
            metrics.LAST_PASS.set_to_current_time()
            self._waiting.pop(key, None)
            if key in self._dirty:
                self._waiting[key] = self._dirty[key]
            if not isinstance(outcome, reconcile.Outcome):
                failures, wait = failures + 1, max(outcome, _retry(failures))
                continue
            failures = 0
            if outcome.gone and key not in self._dirty:
                del self._tasks[key], self._wake[key], self._pools[key]
                return
            looks += 1
            settled = outcome.settled and not outcome.acted
            wait = None if settled else _next_look(looks)
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

    async def _look(self, pool: reconcile.Pool, key: Key, since: float) -> reconcile.Outcome | float:
        """How the pool was left, or after how many seconds at the earliest it can be looked at again."""
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
                return error.retry_seconds
            except Exception:
                LOG.exception("a bug: the look at pool %s/%s ended with", *key)
                metrics.PASSES.labels("bug").inc()
                return 0.0
            metrics.PASSES.labels("acted" if outcome.acted else "unchanged").inc()
            metrics.PASS_SECONDS.observe(time.monotonic() - began)
            return outcome


def _named_lists(resource: Resource) -> Iterator[str]:
    """The ConfigMaps that an endpoint's rules name; of what is no valid endpoint, those that can be read."""
    policy = (resource.get("spec") or {}).get("guardrails") or {}
    for rule in (*(policy.get("input") or ()), *(policy.get("output") or ())):
        if name := ((rule.get("banned") or {}).get("configMapRef") or {}).get("name"):
            yield name


def _next_look(looks: int) -> float:
    """Seconds until the next look at a pool that was looked at so often since something happened."""
    return min(_FIRST_LOOK * 1.5 ** min(looks - 1, 20), _LAST_LOOK if looks < _LATER else _LATER_LOOK)


def _retry(failures: int) -> float:
    """Seconds until the next try, after so many failures before this one."""
    return min(_FIRST_RETRY * 2**failures, _LAST_RETRY) * random.uniform(0.5, 1)
