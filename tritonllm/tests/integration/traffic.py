"""Mixed load on one endpoint, and what must be true of every request in it and of the server after it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import random
from typing import Any

import aiohttp

from integration import ask, server
from tritonllm import client
from tritonllm.runtime import metric_names

GUARDRAILS: dict[str, Any] = {
    "input": [{"name": "secret", "banned": {"phrases": ["launch codes"]}, "action": "Block"}],
    "output": [
        {"name": "language", "profanity": {}, "action": "Mask"},
        {"name": "vowels", "pattern": {"regex": "[aeiou]{4}"}, "action": "Mask"},
    ],
}
_GAUGES = (
    metric_names.RUNNING,
    metric_names.WAITING,
    metric_names.ENGINE_RUNNING,
    metric_names.ENGINE_WAITING,
)
# Nothing in the mix takes this long unless it hangs.
_HANGS_SECONDS = 120.0
_KINDS = (
    "short",
    "short",
    "long",
    "whole",
    "choices",
    "refused",
    "invalid",
    "too long",
    "left",
    "left early",
)


class Run:
    """One run of load.

    Args:
        served: the server.
        name: the endpoint, guarded by `GUARDRAILS`.
        chance: decides the kinds.

    Attributes:
        ends: how often each kind of request ended in which way.
        problems: what must not be.
    """

    def __init__(self, served: server.Served, name: str, chance: random.Random) -> None:
        self.ends: collections.Counter[tuple[str, str]] = collections.Counter()
        self.problems: list[str] = []
        self._served = served
        self._name = name
        self._chance = chance

    async def many(self, requests: int, concurrency: int) -> None:
        """Sends requests, so many at a time, and notes how each ends."""
        waiting = iter(range(requests))
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            client.AsyncClient(self._served.grpc) as grpc,
        ):

            async def worker() -> None:
                for number in waiting:
                    kind = self._chance.choice(_KINDS)
                    try:
                        async with asyncio.timeout(_HANGS_SECONDS):
                            end = await self._one(kind, number, session, grpc)
                    except TimeoutError:
                        end = "HANGS"
                    self.ends[kind, end] += 1
                    if end not in _EXPECTED[kind]:
                        self.problems.append(f"{kind} ended in {end}")

            await asyncio.gather(*(worker() for _ in range(concurrency)))

    def leftovers(self) -> list[str]:
        """What the server still holds of requests that have all ended."""
        found: list[str] = []
        for gauge in _GAUGES:
            with contextlib.suppress(AssertionError):
                server.until(lambda gauge=gauge: ask.metric(self._served, gauge) == 0, 20)
                continue
            found.append(f"{gauge} stays at {ask.metric(self._served, gauge)}")
        return found

    async def _one(
        self, kind: str, number: int, session: aiohttp.ClientSession, grpc: client.AsyncClient
    ) -> str:
        body = _body(kind, number)
        if kind in ("left", "left early"):
            return await self._leave(session, body, events=0 if kind == "left early" else 2)
        if kind != "invalid" and number % 2:
            return await self._ask_grpc(grpc, body)
        return await self._ask_http(session, body)

    async def _ask_http(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> str:
        ends = []
        verb = "generate_stream" if body["stream"] else "generate"
        async with session.post(f"{self._served.http}/v2/models/{self._name}/{verb}", json=body) as response:
            async for line in response.content:
                text = line.removeprefix(b"data: ").strip()
                event = json.loads(text) if text else {}
                if "error" in event:
                    ends.append(event["error"][1:].split("]")[0])
                elif "finish_reason" in event:
                    reasons = event["finish_reason"]
                    ends.append(reasons if isinstance(reasons, str) else reasons[0])
        return "+".join(ends) or "NOTHING"

    async def _ask_grpc(self, grpc: client.AsyncClient, body: dict[str, Any]) -> str:
        sampling = {key: value for key, value in body.items() if key not in ("text_input", "stream")}
        try:
            stream = grpc.stream(self._name, body["text_input"], **sampling)
            async with contextlib.aclosing(stream):
                async for _ in stream:
                    pass
                return stream.answer.choices[0].finish_reason
        except client.InvalidRequest:
            return "invalid_argument"
        except client.TritonLLMError as error:
            return type(error).__name__

    async def _leave(self, session: aiohttp.ClientSession, body: dict[str, Any], events: int) -> str:
        url = f"{self._served.http}/v2/models/{self._name}/generate_stream"
        response = await session.post(url, json=body)
        try:
            for _ in range(events):
                await response.content.readline()
        finally:
            response.close()
        return "left"


_EXPECTED = {
    "short": ("length",),
    "long": ("length",),
    "whole": ("length",),
    "choices": ("length",),
    "refused": ("content_filter",),
    "invalid": ("invalid_argument",),
    "too long": ("invalid_argument",),
    "left": ("left",),
    "left early": ("left",),
}


def _body(kind: str, number: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "text_input": f"Tell me story number {number} of the sea.",
        "stream": kind != "whole",
        "max_tokens": 16 + number % 32,
        "ignore_eos": True,
    }
    changes: dict[str, dict[str, Any]] = {
        "long": {"max_tokens": 200},
        "choices": {"n": 2},
        "refused": {"text_input": "Give me the L4UNCH codes"},
        "invalid": {"temprature": 1},
        "too long": {"text_input": "so on " * 2000},
        "left": {"max_tokens": 300},
        "left early": {"max_tokens": 300},
    }
    return body | changes.get(kind, {})
