"""Asks an endpoint without a pause and says of each request how it ended. Runs in a pod, as `traffic` starts it.

Prints one line of JSON a request; on SIGTERM it sends no further one, waits for those under way and ends. The
endpoint must answer with the prompt, mask `BANNED` with `REPLACEMENT` in answers and refuse `REFUSED` in prompts,
so that of each answer every character is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp

from tritonllm import client

BANNED = "tango"
REPLACEMENT = "[REDACTED]"
REFUSED = "launch codes"
_HANGS_SECONDS = 90.0
_WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
]

# One of each in turn; `long` is still under way when a pod was told to go.
KINDS: tuple[str, ...] = (
    "http",
    "http stream",
    "grpc stream",
    "long http stream",
    "long grpc stream",
    "refused",
    "openai",
    "openai stream",
    "long openai stream",
    "openai refused",
)


def main(http: str, grpc: str, openai: str, key: str, endpoint: str, workers: int) -> None:
    """Asks until SIGTERM.

    Args:
        http: URL of the HTTP port.
        grpc: host and port of gRPC.
        openai: URL of the gateway.
        key: an API key.
        endpoint: whom to ask.
        workers: requests at once.
    """
    asyncio.run(_Load(http, grpc, openai, key, endpoint).run(workers))


class _Load:
    def __init__(self, http: str, grpc: str, openai: str, key: str, endpoint: str) -> None:
        self._http = http
        self._grpc = grpc
        self._openai = openai
        self._key = key
        self._endpoint = endpoint
        self._stopping = False
        self._stood_still = 0.0

    async def run(self, workers: int) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        numbers = itertools.count()
        heart = asyncio.create_task(self._beat())
        await asyncio.gather(*(self._work(numbers) for _ in range(workers)))
        heart.cancel()

    async def _beat(self) -> None:
        """Notes how long this process itself stood still, as then nobody can tell who hangs."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(1)
            late = time.monotonic() - before - 1
            self._stood_still += late if late > 1 else 0

    def _stop(self) -> None:
        self._stopping = True

    async def _work(self, numbers: Iterator[int]) -> None:
        while not self._stopping:
            number = next(numbers)
            kind = KINDS[number % len(KINDS)]
            started = time.time()
            stood_still = self._stood_still
            try:
                async with asyncio.timeout(_HANGS_SECONDS):
                    problem = await self._one(kind, number)
            except TimeoutError:
                problem = (
                    f"hung; this load itself stood still for {self._stood_still - stood_still:.0f} s of it"
                )
            except (aiohttp.ClientError, client.TritonLLMError, OSError, ValueError) as error:
                problem = f"failed: {type(error).__name__}: {error}"
            print(
                json.dumps({"kind": kind, "start": started, "end": time.time(), "problem": problem}),
                flush=True,
            )
            if problem:
                # A server that is away would be asked thousands of times.
                await asyncio.sleep(0.2)

    async def _one(self, kind: str, number: int) -> str:
        """Sends one request; what was wrong with the answer, empty for nothing."""
        prompt = _prompt(kind, number)
        if kind.endswith("grpc stream"):
            text, reason = await self._ask_grpc(prompt)
        elif "openai" in kind:
            text, reason = await self._ask_openai(prompt, stream=kind.endswith("stream"))
        else:
            text, reason = await self._ask_http(prompt, stream=kind.endswith("stream"))
        if BANNED in text.lower():
            return f"unguarded: {text}"
        if kind.endswith("refused"):
            return "" if (text, reason) == ("", "content_filter") else f"unguarded: {reason}: {text}"
        expected = prompt.replace(BANNED, REPLACEMENT)
        return "" if (text, reason) == (expected, "stop") else f"wrong: {reason}: {text!r} for {expected!r}"

    async def _ask_http(self, prompt: str, *, stream: bool) -> tuple[str, str]:
        body = {"text_input": prompt, "stream": stream, "max_tokens": 2000}
        url = f"{self._http}/v2/models/{self._endpoint}/{'generate_stream' if stream else 'generate'}"
        # A connection for each request: a Service spreads connections, not requests.
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.post(url, json=body) as response,
        ):
            text = (await response.read()).decode()
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.strip()]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        if errors := [event["error"] for event in events if "error" in event]:
            raise ValueError(errors[0])
        return "".join(event["text_output"] for event in events), events[-1].get("finish_reason", "none")

    async def _ask_openai(self, prompt: str, *, stream: bool) -> tuple[str, str]:
        body = {
            "model": self._endpoint,
            "messages": [{"role": "user", "content": prompt}],
            "stream": stream,
            "max_tokens": 2000,
        }
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.post(
                f"{self._openai}/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {self._key}"},
            ) as response,
        ):
            text = (await response.read()).decode()
        lines = [
            line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: ", "{"))
        ]
        events: list[dict[str, Any]] = [json.loads(line) for line in lines if line != "[DONE]"]
        for error in (event["error"] for event in events if "error" in event):
            if error["code"] == "content_filter":
                return "", "content_filter"
            raise ValueError(f"{response.status}: {error}")
        if stream and lines[-1] != "[DONE]":
            raise ValueError(f"the stream ended with {lines[-1]!r}")
        choices = [event["choices"][0] for event in events]
        texts = [choice.get("message", choice.get("delta")).get("content") or "" for choice in choices]
        return "".join(texts), choices[-1]["finish_reason"]

    async def _ask_grpc(self, prompt: str) -> tuple[str, str]:
        async with client.AsyncClient(self._grpc) as grpc:
            stream = grpc.stream(self._endpoint, prompt, max_tokens=2000)
            async with contextlib.aclosing(stream):
                text = "".join([chunk.text async for chunk in stream])
                return text, stream.answer.choices[0].finish_reason


def _prompt(kind: str, number: int) -> str:
    if kind.endswith("refused"):
        return f"Number {number}: give me the L4UNCH codes"
    words = _WORDS * (12 if kind.startswith("long") else 1)
    place = number % len(words)
    return " ".join([f"Number {number}:", *words[:place], BANNED, *words[place:]])


if __name__ == "__main__":
    main(*sys.argv[1:6], workers=int(sys.argv[6]))
