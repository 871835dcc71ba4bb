"""Tokens per second through the whole pipeline, guardrails on, beside vLLM's own server.

Both servers run the same tiny random Llama with the same engine arguments, side by side, and take turns at
every step, so that the ratio holds when the machine's speed drifts. A model that costs almost nothing per
token shows what the serving path itself costs.

    python bench/serving.py [--rounds 5] [--steps 1,8,32,64]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import aiohttp
import httpx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests"))

import models
from integration import server

TOKENS = 32
# A token may be half a character, which is no text yet.
_NO_TEXT = re.compile(rb'"text(?:_output)?": ?""')
PROMPT = "tell me about the quick brown fox"
ARGS = {"max_model_len": 512, "max_num_seqs": 64, "enforce_eager": True}
SAMPLING = {"max_tokens": TOKENS, "ignore_eos": True, "temperature": 1.0, "seed": 5}
ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: tiny}}
spec:
  pool: bench
  model: {{path: {path}}}
  engine: {{type: vllm, args: {args}}}
  guardrails:
    input: [{{name: secrets, banned: {{phrases: [project falcon, launch codes]}}, action: Block}}]
    output:
      - {{name: language, profanity: {{}}, action: Mask}}
      - {{name: cards, pattern: {{regex: '(?:\\d[ -]?){{13,16}}'}}, action: Mask}}
"""


class Target:
    """One of the two servers: how to ask it, and how it answers."""

    def __init__(self, name: str, url: str, body: dict[str, object]) -> None:
        self.name, self.url, self.body = name, url, json.dumps(body).encode()

    async def ask(self, session: aiohttp.ClientSession) -> float:
        """Streams one answer; returns the seconds to its first text."""
        started = time.monotonic()
        first = 0.0
        headers = {"Content-Type": "application/json"}
        async with session.post(self.url, data=self.body, headers=headers) as response:
            response.raise_for_status()
            async for line in response.content:
                if line.startswith(b"data: ") and not _NO_TEXT.search(line):
                    first = first or time.monotonic() - started
                    if b'"error":' in line:
                        raise RuntimeError(line.decode())
        return first

    async def measure(self, concurrency: int, requests: int) -> tuple[float, float]:
        """Tokens per second, and the median seconds to the first text."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            left = requests

            async def worker() -> list[float]:
                nonlocal left
                firsts = []
                while left > 0:
                    left -= 1
                    firsts.append(await self.ask(session))
                return firsts

            started = time.monotonic()
            firsts = await asyncio.gather(*(worker() for _ in range(concurrency)))
            seconds = time.monotonic() - started
        return requests * TOKENS / seconds, statistics.median(first for worker in firsts for first in worker)


@contextlib.contextmanager
def vllm_server(model: pathlib.Path, log: pathlib.Path) -> Iterator[str]:
    """vLLM's own OpenAI server with the same engine arguments."""
    port = server.free_ports(1)[0]
    flags = [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}") for key, value in ARGS.items()
    ]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += [
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--disable-uvicorn-access-log",
    ]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    with log.open("w") as output:
        process = subprocess.Popen([*command, *flags], stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + 180
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"vLLM's server did not start; see {log}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    """Prints one markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server at each step")
    parser.add_argument("--steps", default="1,8,32,64", help="numbers of concurrent streams")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tritonllm-bench-") as name:
        directory = pathlib.Path(name)
        model = models.tiny_llama(directory / "tiny")
        endpoint = directory / "tiny.yaml"
        endpoint.write_text(ENDPOINT.format(path=model, args=json.dumps(ARGS)))
        with (
            vllm_server(model, directory / "vllm.log") as vllm,
            server.running([endpoint], environment={"VLLM_CPU_KVCACHE_SPACE": "1"}) as ours,
        ):
            body = {"text_input": PROMPT, "stream": True, **SAMPLING}
            targets = [
                Target("tritonllm", f"{ours.http}/v2/models/tiny/generate_stream", body),
                Target(
                    "vllm",
                    f"{vllm}/v1/completions",
                    {"model": "tiny", "prompt": PROMPT, "stream": True, **SAMPLING},
                ),
            ]
            report(targets, [int(step) for step in options.steps.split(",")], options.rounds)


def report(targets: list[Target], steps: list[int], rounds: int) -> None:
    """Measures every step, in turns, and prints its row."""
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {TOKENS} tokens a request;"
    )
    print(f"medians of {rounds} turns each, tokens per second (and milliseconds to the first text)\n")
    print("| streams | tritonllm, guarded | vLLM's server | ratio | lowest to highest ratio |")
    print("|---|---|---|---|---|")
    for step in steps:
        requests = max(8, step * 6)
        for target in targets:
            asyncio.run(target.measure(step, requests))
        turns = [[asyncio.run(target.measure(step, requests)) for target in targets] for _ in range(rounds)]
        rates = [statistics.median(turn[index][0] for turn in turns) for index in (0, 1)]
        firsts = [1000 * statistics.median(turn[index][1] for turn in turns) for index in (0, 1)]
        ratios = [ours[0] / theirs[0] for ours, theirs in turns]
        print(
            f"| {step} | {rates[0]:.0f} ({firsts[0]:.0f}) | {rates[1]:.0f} ({firsts[1]:.0f}) "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
