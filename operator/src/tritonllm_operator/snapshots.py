"""Lists of a namespace's objects, shared by all pools that were marked dirty before the lists were asked for."""

from __future__ import annotations

import asyncio
import datetime
import functools
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tritonllm_operator import facts, kube, names, objects, pods, pools
from tritonllm_operator.objects import Resource

Groups = Mapping[str, Sequence[Resource]]
"""Objects by pool."""


@dataclass(frozen=True)
class Parts:
    """What there is of one pool.

    Attributes:
        endpoints: oldest first.
        deployment: that its pods come from.
        config_map: that they boot from.
        phrase_lists: ConfigMaps with lists of phrases that its endpoints may name, by name.
        pods: that are not ending, and all of Jobs: their last word counts after they have ended.
        jobs: with its label.
        replica_sets: that may have made the pods.
    """

    endpoints: Sequence[Resource] = ()
    deployment: Resource | None = None
    config_map: Resource | None = None
    phrase_lists: Mapping[str, Resource] = field(default_factory=dict)
    pods: Sequence[Resource] = ()
    jobs: Sequence[Resource] = ()
    replica_sets: Sequence[Resource] = ()

    @functools.cached_property
    def pool(self) -> pools.Pool | None:
        """Its Deployment, read."""
        return pools.read(self.deployment) if self.deployment else None

    def versions(self) -> frozenset[tuple[str, str]]:
        """All of these objects whose changes matter, each with its version."""
        single = filter(None, (self.deployment, self.config_map))
        return frozenset(map(objects.version, (*self.endpoints, *single, *self.pods, *self.jobs)))

    def world(self, namespace: str, name: str, now: datetime.datetime) -> facts.World:
        """What is known of it without its pods and Jobs."""
        files = pools.files(self.config_map) if self.config_map else None
        return facts.World(
            namespace, name, now, self.endpoints, self.pool, files, config_maps=self.phrase_lists
        )


@dataclass(frozen=True)
class Snapshot:
    """A namespace at one time.

    Attributes:
        began: monotonic clock; what happened before is in it.
        found: the objects of each kind.
    """

    began: float
    found: Mapping[kube.Kind, Groups]

    def of(self, pool: str) -> Parts:
        """What there is of a pool."""
        endpoints, deployments, config_maps, all_pods, jobs, replica_sets = (
            self.found[kind].get(pool, ()) for kind in _KINDS
        )
        # Those without the name of a pool are for all.
        lists = (*self.found[kube.CONFIG_MAPS].get("", ()), *config_maps)
        return Parts(
            endpoints,
            _named(deployments, pool),
            _named(config_maps, names.config_map(pool)),
            {
                item["metadata"]["name"]: item
                for item in lists
                if objects.labels(item).get(names.COMPONENT) == names.PHRASES
            },
            [pod for pod in all_pods if not pods.ending(pod) or not pods.serves(pod)],
            jobs,
            replica_sets,
        )


_KINDS = (kube.ENDPOINTS, *kube.OF_POOLS, kube.REPLICA_SETS)


class Snapshots:
    """Takes a snapshot only where none is new enough."""

    def __init__(self, api: kube.Kube) -> None:
        self._api = api
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # It is not needed after the passes that use it.
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
        others = await asyncio.gather(*(self._api.list(kind, namespace, names.POOL) for kind in _KINDS[1:]))
        found: dict[kube.Kind, Groups] = {
            kind: _group((item["metadata"]["labels"][names.POOL], item) for item in items)
            for kind, items in zip(_KINDS[1:], others, strict=True)
        }
        by_age = sorted(endpoints, key=_age)
        found[kube.ENDPOINTS] = _group((str(item["spec"].get("pool", "")), item) for item in by_age)
        return Snapshot(began, found)


def _group(found: Iterable[tuple[str, Resource]]) -> dict[str, list[Resource]]:
    groups: defaultdict[str, list[Resource]] = defaultdict(list)
    for pool, item in found:
        groups[pool].append(item)
    return dict(groups)


def _named(found: Sequence[Resource], name: str) -> Resource | None:
    """The one with the right name; others may carry the label, too."""
    return next((item for item in found if item["metadata"]["name"] == name), None)


def _age(endpoint: Resource) -> tuple[str, str]:
    metadata = endpoint["metadata"]
    return metadata["creationTimestamp"], metadata["name"]
