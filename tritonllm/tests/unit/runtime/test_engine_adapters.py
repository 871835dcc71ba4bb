"""A pipeline and its engine about adapters, over the private stream: told at once, and again to each new engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import lora_files
from tritonllm import errors, sampling
from tritonllm.ipc import engine_address, listener, run_token
from tritonllm.runtime import (
    adapters,
    backend,
    endpoint_adapters,
    engine_client,
    engine_server,
    requests,
)
from unit.runtime import pipelines


class Backend(pipelines.FakeBackend):
    """An engine to which adapters can be added."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[int, str] = {}

    async def add_adapter(self, number: int, name: str, directory: str) -> None:
        self.loaded[number] = name

    async def remove_adapter(self, number: int) -> None:
        del self.loaded[number]


class Engine:
    """An engine model: its backend, its adapters and its server."""

    def __init__(self, weights: Path) -> None:
        loop = asyncio.get_running_loop()
        self.backend = Backend()
        fake: Any = self.backend
        self.adapters = adapters.Adapters(loop, fake, weights, weights / "model", again_seconds=0.01)
        self.server = engine_server.EngineServer(
            loop, fake, lambda lease, report: report(), lambda owner: None, self.adapters
        )

    async def start(self) -> None:
        await self.server.start()
        engine_address.write("chat-engine", self.server.path)

    async def die(self) -> None:
        for connection in list(self.server.connections):
            connection._transport.abort()
        self.server.close()
        await self.adapters.close()


class Pipeline:
    """A pipeline's side: its client, and what it knows of its adapters."""

    def __init__(self, *names: str) -> None:
        wanted = json.dumps([{"name": name, "path": name} for name in names])
        self.adapters = endpoint_adapters.EndpointAdapters("chat", wanted, lambda: None)
        self.leases = pipelines.Leases()
        self.errors: list[errors.RequestError] = []
        self.client = engine_client.EngineClient(
            asyncio.get_running_loop(),
            self.leases,
            lambda number, update: None,
            lambda number, error: self.errors.append(error),
            "me",
        )
        self.client.follow(self.adapters, lambda: engine_address.read("chat-engine"))


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Callable[[Path], Awaitable[None]]], None]:
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    (tmp_path / "run").mkdir()
    monkeypatch.setenv(listener.DIRECTORY, str(tmp_path / "run"))
    monkeypatch.setattr(engine_client, "_FOLLOW_SECONDS", 0.01)
    (tmp_path / "model").mkdir()
    lora_files.adapter(tmp_path / "sql")

    def runner(scenario: Callable[[Path], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(60):
                await scenario(tmp_path)

        asyncio.run(main())

    return runner


def test_an_engine_has_the_adapters_before_the_first_request_and_so_has_the_next_engine(run: Any) -> None:
    async def scenario(weights: Path) -> None:
        first = Engine(weights)
        await first.start()
        pipeline = Pipeline("sql", "nosuch")
        await pipeline.adapters.wait(30)
        assert pipeline.adapters.ready == ["sql"]
        assert list(first.backend.loaded.values()) == ["sql"]
        await first.die()
        second = Engine(weights)
        await second.start()
        await until(lambda: list(second.backend.loaded.values()) == ["sql"])
        await pipeline.client.close()
        await until(lambda: not second.backend.loaded)
        await second.die()

    run(scenario)


def test_a_request_goes_with_its_adapter_and_gives_it_up_at_its_end(run: Any) -> None:
    async def scenario(weights: Path) -> None:
        engine = Engine(weights)
        await engine.start()
        pipeline = Pipeline("sql")
        await pipeline.adapters.wait(30)
        pipeline.leases.engine = engine  # type: ignore[assignment]
        engine.leases = set()  # type: ignore[attr-defined]
        asked = requests.Request("Hi", None, sampling.SamplingParameters(), {}, adapter="sql")
        pipeline.client.submit(1, asked)
        await until(lambda: engine.backend.live)
        (submitted,) = engine.backend.live.values()
        assert submitted.generation.adapter == 1
        (loaded,) = engine.adapters._known.values()
        assert loaded.users == 1
        submitted.on_update(backend.Update(["a"], ["stop"], 1, [1]))
        assert loaded.users == 0
        pipeline.client.submit(2, asked)
        await until(lambda: loaded.users == 1)
        pipeline.client.abort(2)
        await until(lambda: loaded.users == 0)
        await pipeline.client.close()
        await engine.die()

    run(scenario)


def test_what_is_asked_of_an_adapter_that_is_not_there_is_refused_with_the_names_of_those_that_are(
    run: Any,
) -> None:
    async def scenario(weights: Path) -> None:
        engine = Engine(weights)
        await engine.start()
        pipeline = Pipeline("sql", "nosuch")
        await pipeline.adapters.wait(30)
        pipeline.adapters.check("sql")
        for name, why in (("nosuch", "is not loaded"), ("other", "does not exist")):
            with pytest.raises(errors.RequestError) as caught:
                pipeline.adapters.check(name)
            assert (caught.value.code, caught.value.field) == ("model_not_found", "lora_name")
            assert why in caught.value.message
            assert caught.value.message.endswith("loaded are: `sql`")
        await pipeline.client.close()
        await engine.die()

    run(scenario)
