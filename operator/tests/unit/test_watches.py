"""Watches that the API server refuses: tried again, counted, and told once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tritonllm_operator import kube, metrics


class Refusing:
    """An API server that refuses some watches, and then sends one object."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    async def watch(
        self, kind: kube.Kind, namespace: str, selector: str
    ) -> AsyncIterator[dict[str, str] | None]:
        if self.refusals:
            self.refusals -= 1
            raise kube.Failed(403, "pods is forbidden")
        yield None
        yield {"kind": "Pod"}
        await asyncio.Event().wait()


def test_a_watch_that_cannot_be_opened_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    failures = metrics.WATCH_FAILURES.labels("pods")
    before = failures._value.get()

    async def run() -> list[object]:
        seen: asyncio.Queue[object] = asyncio.Queue()
        kind = next(kind for kind in kube.OF_POOLS if kind[1] == "pods")
        refusing: Any = Refusing(3)
        watching = asyncio.create_task(
            kube.watch_for_ever(refusing, kind, "", "", seen.put_nowait, lambda: seen.put_nowait(None), 0.0)
        )
        async with asyncio.timeout(10):
            found = [await seen.get(), await seen.get()]
        watching.cancel()
        return found

    assert asyncio.run(run()) == [None, {"kind": "Pod"}]
    assert failures._value.get() - before == 3
    assert [record.message for record in caplog.records] == [
        "pods in all namespaces can't be watched, which is tried again: pods is forbidden",
        "pods in all namespaces are watched again",
    ]
