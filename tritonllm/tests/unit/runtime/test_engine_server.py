"""The engine's socket: only its pipeline is heard, and a pipeline that leaves occupies nothing."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tritonllm.ipc import channel, listener, run_token
from unit.runtime import pipelines


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Any], Any]]:
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    monkeypatch.setenv(listener.DIRECTORY, str(tmp_path))

    def runner(scenario: Callable[[pipelines.Engine], Any]) -> Any:
        async def main() -> Any:
            engine = pipelines.Engine(asyncio.get_running_loop())
            await engine.server.start()
            try:
                async with asyncio.timeout(60):
                    return await scenario(engine)
            finally:
                engine.server.close()

        return asyncio.run(main())

    yield runner
    assert not list(tmp_path.iterdir())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def send(engine: pipelines.Engine, *messages: channel.Message) -> tuple[asyncio.StreamReader, Any]:
    reader, writer = await asyncio.open_unix_connection(str(engine.server.path))
    writer.write(channel.encode(list(messages)))
    return reader, writer


GENERATE = [channel.GENERATE, 1, "Hi", None, {}, {}]


@pytest.mark.parametrize(
    "messages",
    [
        [GENERATE],
        [[channel.HELLO, "", "me"], GENERATE],
        [[channel.HELLO, "wrong", "me"], GENERATE],
        [[channel.HELLO]],
        [[]],
        [],
    ],
)
def test_without_the_token_in_the_first_message_the_connection_is_closed_and_nothing_generated(
    run: Callable[[Any], Any], messages: list[channel.Message]
) -> None:
    async def scenario(engine: pipelines.Engine) -> tuple[bytes, int]:
        reader, writer = await send(engine, *messages)
        received = await reader.read()
        writer.close()
        return received, len(engine.backend.live)

    assert run(scenario) == (b"", 0)


def test_the_socket_is_for_this_user_alone(run: Callable[[Any], Any]) -> None:
    async def scenario(engine: pipelines.Engine) -> int:
        return stat.S_IMODE(engine.server.path.stat().st_mode)

    assert run(scenario) == 0o600


@pytest.mark.parametrize("given", [None, "/tmp/" + "long" * 25])
def test_without_a_run_directory_whose_path_is_short_an_engine_makes_a_private_one(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv(listener.DIRECTORY, raising=False)
    if given:
        monkeypatch.setenv(listener.DIRECTORY, given)

    async def scenario() -> tuple[int, Path]:
        engine = pipelines.Engine(asyncio.get_running_loop())
        await engine.server.start()
        mode = stat.S_IMODE(engine.server.path.parent.stat().st_mode)
        engine.server.close()
        return mode, engine.server.path.parent

    mode, directory = asyncio.run(scenario())
    assert mode == 0o700
    assert not directory.exists()


def test_a_pipeline_that_is_gone_aborts_what_was_its_own_and_loses_its_leases(
    run: Callable[[Any], Any],
) -> None:
    async def scenario(engine: pipelines.Engine) -> tuple[list[str], set[str]]:
        engine.leases = {"me.1", "other.1"}
        _, mine = await send(engine, [channel.HELLO, "secret", "me"], GENERATE)
        _, other = await send(engine, [channel.HELLO, "secret", "other"], GENERATE)
        await until(lambda: len(engine.backend.live) == 2)
        mine.transport.abort()
        await until(lambda: engine.backend.aborted)
        left = list(engine.backend.live)
        leases = set(engine.leases)
        other.transport.abort()
        return left, leases

    assert run(scenario) == (["other-1"], {"other.1"})


def test_an_aborted_request_gets_nothing_more_also_not_what_was_waiting_to_be_sent(
    run: Callable[[Any], Any],
) -> None:
    async def scenario(engine: pipelines.Engine) -> list[list[channel.Message]]:
        reader, writer = await send(
            engine, [channel.HELLO, "secret", "me"], GENERATE, [channel.GENERATE, 2, "x", None, {}, {}]
        )
        await until(lambda: len(engine.backend.live) == 2)
        first, second = engine.backend.live.values()
        writer.write(channel.encode([[channel.ABORT, 1]]))
        await until(lambda: engine.backend.aborted == ["me-1"])
        second.token("only this")
        received = list(channel.Decoder().feed(await reader.read(4096)))
        first.token("not this")
        writer.close()
        return received

    [[message]] = run(scenario)
    assert message[:3] == [channel.UPDATE, 2, ["only this"]]
