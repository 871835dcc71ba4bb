"""Mixed load on one endpoint, and what must be true of every request in it and of the server after it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import random
from collections.abc import Iterable
from typing import Any

import aiohttp

from integration import ask, echoes, server
from tritonllm import api, client, errors, guardrails
from tritonllm.runtime import metric_names

GUARDRAILS: dict[str, Any] = {
    "input": [{"name": "secret", "banned": {"phrases": ["launch codes"]}, "action": "Block"}],
    "output": [
        {"name": "language", "profanity": {}, "action": "Mask"},
        {"name": "vowels", "pattern": {"regex": "[aeiou]{4}"}, "action": "Mask"},
        {"name": "animals", "banned": {"phrases": [echoes.BLOCKED]}, "action": "Block"},
    ],
}
_GAUGES = (
    metric_names.RUNNING,
    metric_names.WAITING,
    metric_names.ENGINE_RUNNING,
    metric_names.ENGINE_WAITING,
)
# Nothing in the mix takes this long unless it hangs.
_HANGS_SECONDS = 60.0
# How long a client waits with its next request when the server could not take one.
_RETRY_SECONDS = 0.2
_DISCONNECTED = "disconnected"
# What tritonserver itself answers while a model is not loaded yet, or its process has just died.
_NOT_LOADED = "not loaded"
_NOT_LOADED_TEXTS = ("Request for unknown model", "Stub process")
# How a request can end whose processes are killed.
_INTERRUPTED = {
    *errors.CODES,
    _DISCONNECTED,
    _NOT_LOADED,
    *(
        kind.__name__
        for kind in (
            client.Cancelled,
            client.EngineFailed,
            client.ModelNotFound,
            client.ServerFailed,
            client.ServerUnreachable,
            client.StreamBroken,
            client.Unavailable,
        )
    ),
} - {"invalid_argument", "permission_denied"}
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


@dataclasses.dataclass
class _Received:
    """How a request ended, and the text of each choice until then."""

    ends: list[str] = dataclasses.field(default_factory=list)
    texts: dict[int, str] = dataclasses.field(default_factory=dict)

    def add(self, text: str, index: int = 0) -> None:
        self.texts[index] = self.texts.get(index, "") + text

    @property
    def end(self) -> str:
        return "+".join(self.ends) or "NOTHING"


class Run:
    """One run of load.

    Args:
        served: the server.
        name: the endpoint, guarded by `GUARDRAILS`.
        chance: decides the kinds.
        echo: whether its engine gives back the prompt, so that texts can be checked.
        interrupted: whether processes of the server are killed meanwhile, so that requests can end in errors.

    Attributes:
        ends: how often each kind of request ended in which way.
        problems: what must not be.
    """

    def __init__(
        self,
        served: server.Served,
        name: str,
        chance: random.Random,
        *,
        echo: bool = False,
        interrupted: bool = False,
    ) -> None:
        self.ends: collections.Counter[tuple[str, str]] = collections.Counter()
        self.problems: list[str] = []
        self._served = served
        self._name = name
        self._chance = chance
        self._echo = echo
        self._interrupted = interrupted
        rules = api.Guardrails.model_validate(GUARDRAILS)
        self._policy = guardrails.compile(rules.output)

    async def many(self, numbers: Iterable[int], concurrency: int) -> None:
        """Sends a request for each number, so many at a time, and notes how each ends."""
        waiting = iter(numbers)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            client.AsyncClient(self._served.grpc) as grpc,
        ):

            async def worker() -> None:
                for number in waiting:
                    kind = self._chance.choice((*_KINDS, "blocked") if self._echo else _KINDS)
                    body = _body(kind, number)
                    if self._echo and kind not in ("refused", "too long"):
                        body["text_input"] = echoes.prompt(self._chance)
                    if kind == "blocked":
                        body["text_input"] += f"{echoes.BLOCKED} "
                    received = _Received()
                    try:
                        async with asyncio.timeout(_HANGS_SECONDS):
                            await self._one(kind, number, body, session, grpc, received)
                    except TimeoutError:
                        received.ends.append("HANGS")
                    self._note(kind, body, received)
                    if received.end in _INTERRUPTED:
                        await asyncio.sleep(_RETRY_SECONDS)

            await asyncio.gather(*(worker() for _ in range(concurrency)))

    def leftovers(self) -> list[str]:
        """What the server still holds of requests that have all ended."""
        found: list[str] = []
        for gauge in _GAUGES:
            with contextlib.suppress(AssertionError):
                server.until(lambda gauge=gauge: ask.metric(self._served, gauge) == 0, 60)
                continue
            found.append(f"{gauge} stays at {ask.metric(self._served, gauge)}")
        return found

    def _note(self, kind: str, body: dict[str, Any], received: _Received) -> None:
        end = received.end
        self.ends[kind, end] += 1
        if end not in _EXPECTED[kind] and not (self._interrupted and end in _INTERRUPTED):
            self.problems.append(f"{kind} ended in {end}")
        if self._echo and kind not in ("refused", "invalid", "too long"):
            said = echoes.said(body["text_input"], body["max_tokens"])
            for text in received.texts.values():
                if problem := echoes.problem(self._policy, said, end, text):
                    self.problems.append(f"{kind}: {problem}")

    async def _one(
        self,
        kind: str,
        number: int,
        body: dict[str, Any],
        session: aiohttp.ClientSession,
        grpc: client.AsyncClient,
        received: _Received,
    ) -> None:
        if kind not in ("invalid", "left", "left early") and number % 2:
            await self._ask_grpc(grpc, body, received)
            return
        try:
            if kind in ("left", "left early"):
                await self._leave(session, body, 0 if kind == "left early" else 2, received)
            else:
                await self._ask_http(session, body, received)
        except (aiohttp.ClientError, ConnectionError):
            # A connection that breaks after the end does not end the request again.
            received.ends = received.ends or [_DISCONNECTED]

    async def _ask_http(
        self, session: aiohttp.ClientSession, body: dict[str, Any], received: _Received
    ) -> None:
        verb = "generate_stream" if body["stream"] else "generate"
        async with session.post(f"{self._served.http}/v2/models/{self._name}/{verb}", json=body) as response:
            async for line in response.content:
                _read(line, received)

    async def _ask_grpc(self, grpc: client.AsyncClient, body: dict[str, Any], received: _Received) -> None:
        sampling = {key: value for key, value in body.items() if key not in ("text_input", "stream")}
        try:
            stream = grpc.stream(self._name, body["text_input"], **sampling)
            async with contextlib.aclosing(stream):
                async for chunk in stream:
                    received.add(chunk.text, chunk.index)
                received.ends.append(stream.answer.choices[0].finish_reason)
        except client.InvalidRequest:
            received.ends.append("invalid_argument")
        except client.TritonLLMError as error:
            received.ends.append(type(error).__name__)

    async def _leave(
        self, session: aiohttp.ClientSession, body: dict[str, Any], events: int, received: _Received
    ) -> None:
        url = f"{self._served.http}/v2/models/{self._name}/generate_stream"
        response = await session.post(url, json=body)
        try:
            for _ in range(events):
                _read(await response.content.readline(), received)
        finally:
            response.close()
        received.ends = received.ends or ["left"]


def _read(line: bytes, received: _Received) -> None:
    """Notes what a line of an HTTP response says."""
    text = line.removeprefix(b"data: ").strip()
    event = json.loads(text) if text else {}
    if "error" in event:
        code, _, _ = event["error"].removeprefix("[").partition("]")
        if event["error"].startswith(_NOT_LOADED_TEXTS):
            code = _NOT_LOADED
        elif code not in errors.CODES:
            code = f"an error without a code: {code}"
        received.ends.append(code)
        return
    texts = event.get("text_output", "")
    for index, piece in enumerate([texts] if isinstance(texts, str) else texts):
        received.add(piece, index)
    if "finish_reason" in event:
        reasons = event["finish_reason"]
        received.ends.append(reasons if isinstance(reasons, str) else reasons[0])


_EXPECTED = {
    "short": ("length",),
    "long": ("length",),
    "whole": ("length",),
    "choices": ("length",),
    "blocked": ("content_filter",),
    "refused": ("content_filter",),
    "invalid": ("invalid_argument",),
    "too long": ("invalid_argument",),
    # A server that is busy can send the whole answer at once.
    "left": ("left", "length"),
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
        "blocked": {"max_tokens": 300},
        "refused": {"text_input": "Give me the L4UNCH codes"},
        "invalid": {"temprature": 1},
        "too long": {"text_input": "so on " * 2000},
        "left": {"max_tokens": 300},
        "left early": {"max_tokens": 300},
    }
    return body | changes.get(kind, {})
