"""What a snapshot is, where the order of things matters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import worlds
from tritonllm_operator import kube, names, objects, reconcile, snapshots


class GivenBack(kube.Kube):
    """The API server while Helm gives a pool back to its chart: the Deployment is changed, then the endpoint deleted.

    All of that happens between its first answer and its second; endpoints are the most, and take longest.
    """

    def __init__(self) -> None:
        self.managed = True

    async def list(self, kind: kube.Kind, namespace: str = "", selector: str = "") -> list[objects.Resource]:
        if kind == kube.ENDPOINTS:
            await asyncio.sleep(0)
        managed, self.managed = self.managed, False
        if kind == kube.ENDPOINTS and managed:
            return [{"metadata": {"name": "chat", "creationTimestamp": "x"}, "spec": {"pool": "llm"}}]
        if kind == kube.DEPLOYMENTS:
            mark = {names.OPERATOR: str(managed).lower()}
            return [{"metadata": {"name": "llm", "labels": {names.POOL: "llm"}, "annotations": mark}}]
        return []


def test_no_pool_seems_to_be_the_operators_and_without_its_endpoints_while_it_is_given_back() -> None:
    lists = snapshots.Snapshots(GivenBack())
    seen = asyncio.run(lists.get("prod", 0)).of("llm")
    gone = not seen.endpoints
    assert seen.deployment
    managed = seen.deployment["metadata"]["annotations"][names.OPERATOR] == "true"
    assert not (gone and managed)


class TwoPools(kube.Kube):
    """An API server with an endpoint for each of two pools; each write waits for the other one."""

    def __init__(self) -> None:
        self.lists = 0
        self.both = asyncio.Barrier(2)

    async def list(self, kind: kube.Kind, namespace: str = "", selector: str = "") -> list[objects.Resource]:
        self.lists += 1
        endpoints: list[objects.Resource] = [
            worlds.resource("one", pool="first"),
            worlds.resource("two", pool="second"),
        ]
        return endpoints if kind == kube.ENDPOINTS else []

    async def apply_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        async with asyncio.timeout(10):
            await self.both.wait()

    async def create(self, kind: kube.Kind, namespace: str, body: objects.Resource) -> None:
        """Takes the Events."""


def test_pools_that_are_looked_at_at_the_same_time_share_a_snapshot() -> None:
    async def look() -> int:
        api = TwoPools()
        lists = snapshots.Snapshots(api)
        pools = [reconcile.Pool(("prod", name), api, lists, lambda: None) for name in ("first", "second")]
        await asyncio.gather(*(pool.reconcile(0) for pool in pools))
        return api.lists

    assert asyncio.run(look()) == len((kube.ENDPOINTS, *kube.OF_POOLS, kube.REPLICA_SETS))
