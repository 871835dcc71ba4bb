"""Which events a pool is looked at for, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import worlds
from tritonllm_operator import kube, objects, reconcile, snapshots, worker


class Chat(kube.Kube):
    """An API server with one endpoint, of a pool that is not there; it takes the status and Events."""

    def __init__(self) -> None:
        pass

    async def list(self, kind: kube.Kind, namespace: str = "", selector: str = "") -> list[objects.Resource]:
        return [worlds.resource()] if kind == kube.ENDPOINTS else []

    async def apply_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        pass

    async def create(self, kind: kube.Kind, namespace: str, body: objects.Resource) -> None:
        pass


def version(text: str) -> objects.Resource:
    """The endpoint in a version."""
    found = worlds.resource()
    return {**found, "metadata": {**found["metadata"], "resourceVersion": text}}


def test_an_event_tells_nothing_new_of_an_object_that_the_last_look_saw_in_this_version() -> None:
    api = Chat()
    pool = reconcile.Pool(("prod", "llm"), api, snapshots.Snapshots(api), lambda: None)
    assert not pool.knows(version("1"))
    asyncio.run(pool.reconcile(0))
    assert pool.knows(version("1"))
    assert not pool.knows(version("2"))


class Noted(reconcile.Pool):
    """A pool that is gone, and notes the looks at it."""

    def __init__(self) -> None:
        self.looks = 0

    async def reconcile(self, since: float) -> reconcile.Outcome:
        self.looks += 1
        return reconcile.Outcome(gone=True)


class Turns(asyncio.Semaphore):
    """A semaphore with one turn, which signals when the turn is requested."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = asyncio.Event()

    async def acquire(self) -> Literal[True]:
        self.asked.set()
        return await super().acquire()


def test_what_is_marked_while_a_pool_waits_for_its_turn_is_seen_in_that_turn() -> None:
    async def looks() -> int:
        turns, pool = Turns(), Noted()
        async with turns:
            turns.asked.clear()
            looking = worker.Worker(("prod", "llm"), pool, turns)
            looking.mark()
            task = asyncio.create_task(looking.run())
            await turns.asked.wait()
            looking.mark()
        async with asyncio.timeout(10):
            await task
        return pool.looks

    assert asyncio.run(looks()) == 1
