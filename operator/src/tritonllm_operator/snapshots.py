"""Lists of a namespace's objects, shared by all pools that were marked dirty before the lists were asked for."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tritonllm_operator import kube, names, pods
from tritonllm_operator.facts import Resource


@dataclass(frozen=True)
class Snapshot:
    """A namespace at one time. Everything is by pool.

    Attributes:
        began: monotonic clock; what happened before is in it.
        endpoints: oldest first.
        deployments: that a pool's pods come from.
        config_maps: that the pods boot from.
        phrase_lists: ConfigMaps with lists of phrases; those under an empty name are for all pools.
        pods: that are not ending.
        jobs: of the operator, that bring weights.
        benchmarks: its Jobs that benchmark endpoints.
        replica_sets: that may have made the pods.
    """

    began: float
    endpoints: Mapping[str, Sequence[Resource]] = field(default_factory=dict)
    deployments: Mapping[str, Resource] = field(default_factory=dict)
    config_maps: Mapping[str, Resource] = field(default_factory=dict)
    phrase_lists: Mapping[str, Sequence[Resource]] = field(default_factory=dict)
    pods: Mapping[str, Sequence[Resource]] = field(default_factory=dict)
    jobs: Mapping[str, Sequence[Resource]] = field(default_factory=dict)
    benchmarks: Mapping[str, Resource] = field(default_factory=dict)
    replica_sets: Mapping[str, Sequence[Resource]] = field(default_factory=dict)

    def lists_for(self, pool: str) -> dict[str, Resource]:
        """The ConfigMaps with lists of phrases that a pool's endpoints may name, by name."""
        found = (*self.phrase_lists.get("", ()), *self.phrase_lists.get(pool, ()))
        return {item["metadata"]["name"]: item for item in found}


class Snapshots:
    """Takes a snapshot only where none is new enough."""

    def __init__(self, api: kube.Kube) -> None:
        self._api = api
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Nobody needs it after the passes that use it.
        self._latest: weakref.WeakValueDictionary[str, Snapshot] = weakref.WeakValueDictionary()

    async def get(self, namespace: str, since: float) -> Snapshot:
        """The namespace as it was after a time.

        Args:
            namespace: which.
            since: monotonic clock.

        Raises:
            kube.Failed: the API server does not list it.
        """
        async with self._locks[namespace]:
            found = self._latest.get(namespace)
            if found is None or found.began < since:
                found = await self._take(namespace)
                self._latest[namespace] = found
            return found

    async def _take(self, namespace: str) -> Snapshot:
        began = time.monotonic()
        # Endpoints first: a pool that is given back to its chart has a Deployment that says so before its endpoints
        # are deleted. The other way round they would seem to be gone from a pool that is still the operator's.
        endpoints = await self._api.list(kube.ENDPOINTS, namespace)
        others = await asyncio.gather(
            *(self._api.list(kind, namespace, names.POOL) for kind in (*kube.OF_POOLS, kube.REPLICA_SETS))
        )
        deployments, config_maps, all_pods, jobs, replica_sets = (_by_pool(found) for found in others)
        return Snapshot(
            began,
            endpoints=_group(
                (str(item["spec"].get("pool", "")), item) for item in sorted(endpoints, key=_age)
            ),
            deployments=_named(deployments, lambda pool: pool),
            config_maps=_named(config_maps, names.config_map),
            phrase_lists={
                pool: [item for item in found if names.has_phrases(item["metadata"])]
                for pool, found in config_maps.items()
            },
            pods={
                pool: [pod for pod in found if not pods.ending(pod) or _brings(pod)]
                for pool, found in all_pods.items()
            },
            jobs={pool: [job for job in found if _revision(job) is not None] for pool, found in jobs.items()},
            benchmarks=_named(jobs, names.benchmark_job),
            replica_sets=replica_sets,
        )


def _by_pool(found: Sequence[Resource]) -> dict[str, list[Resource]]:
    return _group((item["metadata"]["labels"][names.POOL], item) for item in found)


def _group(found: Iterable[tuple[str, Resource]]) -> dict[str, list[Resource]]:
    groups: defaultdict[str, list[Resource]] = defaultdict(list)
    for pool, item in found:
        groups[pool].append(item)
    return dict(groups)


def _named(groups: Mapping[str, Sequence[Resource]], name: Callable[[str], str]) -> dict[str, Resource]:
    """The one object of each pool that has the right name; others may carry the label, too."""
    return {
        pool: item
        for pool, found in groups.items()
        for item in found
        if item["metadata"]["name"] == name(pool)
    }


def _age(endpoint: Resource) -> tuple[str, str]:
    metadata = endpoint["metadata"]
    return metadata["creationTimestamp"], metadata["name"]


def _brings(pod: Resource) -> bool:
    """Whether a pod is of a Job, that brings weights or a result: its last word counts after it has ended."""
    return not pods.serves(pod)


def _revision(job: Resource) -> str | None:
    return (job["metadata"].get("annotations") or {}).get(names.REVISION)
