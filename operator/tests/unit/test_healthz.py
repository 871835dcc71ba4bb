"""The kubelet's probe is answered at either family of IP."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from tritonllm import addresses
from tritonllm_operator import health


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_answers_on_both_families(host: str) -> None:
    if host == "[::1]" and addresses.available(addresses.ANY) != addresses.ANY:
        pytest.skip("this machine has no IPv6")

    async def ask() -> int:
        port = free_port()
        async with (
            health.answering(port, lambda: 1.0),
            aiohttp.ClientSession() as session,
            session.get(f"http://{host}:{port}/healthz") as answer,
        ):
            return answer.status

    assert asyncio.run(ask()) == 200


def test_nobody_answers_when_the_operator_has_ended() -> None:
    async def ask() -> None:
        port = free_port()
        async with health.answering(port, lambda: 1.0):
            pass
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://127.0.0.1:{port}/healthz")

    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(ask())


STUCK = "stuck: a change has waited for 301 s for the end of a pass over its pool\n"


@pytest.mark.parametrize(("seconds", "status", "told"), [(299, 200, "ok\n"), (301, 503, STUCK)])
def test_an_operator_whose_passes_do_not_end_is_stuck(seconds: float, status: int, told: str) -> None:
    async def ask() -> tuple[int, str]:
        port = free_port()
        async with (
            health.answering(port, lambda: seconds),
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/healthz") as answer,
        ):
            return answer.status, await answer.text()

    assert asyncio.run(ask()) == (status, told)
