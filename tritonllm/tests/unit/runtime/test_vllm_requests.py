"""How vLLM hands out outputs: to a callback where a version can, by its generator where it can't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tritonllm.runtime import vllm_requests


class Collector:
    """As vLLM's: holds what came before somebody listened."""

    def __init__(self, early: Any) -> None:
        self.early = early

    def put(self, output: Any) -> None:
        raise AssertionError("the callback replaces it")

    def get_nowait(self) -> Any:
        if isinstance(self.early, Exception):
            raise self.early
        return self.early


class Callbacks:
    def __init__(self, early: Any) -> None:
        self.collector = Collector(early)

    async def add_request(self, request_id: str, prompt: Any, params: Any) -> Collector:
        return self.collector


class Generators:
    def __init__(self, *outputs: Any) -> None:
        self.outputs = outputs

    async def generate(self, prompt: Any, params: Any, request_id: str) -> AsyncGenerator[Any]:
        for output in self.outputs:
            if isinstance(output, Exception):
                raise output
            yield output


@pytest.mark.parametrize("early", [None, "a", ValueError("refused")])
def test_outputs_go_to_the_callback_also_those_that_came_before_it(
    monkeypatch: pytest.MonkeyPatch, early: Any
) -> None:
    monkeypatch.setattr(vllm_requests, "by_callback", lambda engine: True)
    received: list[Any] = []
    engine = Callbacks(early)
    asyncio.run(vllm_requests.add(engine, "1", None, None, received.append))
    engine.collector.put("b")
    assert received == ([early] if early else []) + ["b"]


def test_a_version_without_the_names_is_served_by_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_requests, "by_callback", lambda engine: False)
    received: list[Any] = []
    failure = RuntimeError("dead")

    async def scenario() -> None:
        await vllm_requests.add(Generators("a", "b", failure), "1", None, None, received.append)
        async with asyncio.timeout(60):
            while len(received) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)

    asyncio.run(scenario())
    assert received == ["a", "b", failure]
