"""Thousands of mixed requests against the real server: each must end in exactly one way, and leave nothing.

    python bench/load.py [--requests 5000] [--concurrency 200] [--simulated] [--kill-every SECONDS]

Real Triton, real vLLM, the tiny random Llama. The kinds are mixed at random, the same way every time: guarded,
refused, cancelled, invalid and long requests, over HTTP and gRPC. With `--simulated` the engine costs nothing, makes
a thousand tokens a second for each request and gives back the prompt, so that every text is compared with the masked
one. With `--kill-every` processes of the server are killed meanwhile: requests can end in an error then, but each
must end, and afterwards the server must work and hold what it held before.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests"))

import kills
import leaks
import models
import processes
import serve_again
from integration import server, traffic

# Enough for every process to take what it keeps.
WARM_UP_REQUESTS = 300
AFTERWARDS_REQUESTS = 100
HEAL_SECONDS = 180
ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: tiny}}
spec:
  pool: load
  {engine}
  sampling: {{maxTokensLimit: 400}}
  guardrails: {guardrails}
  limits: {{maxConcurrentRequests: 256, maxQueuedRequests: 512}}
"""
VLLM = """model: {{path: {path}}}
  engine: {{type: vllm, args: {{max_model_len: 512, max_num_seqs: 64, enforce_eager: true}}}}"""
SIMULATED = (
    "engine: {type: simulated, "
    "args: {reply: echo, max_model_len: 512, max_num_seqs: 64, inter_token_seconds: 0.001}}"
)


class Report:
    """What was seen, and everything that is not as it must be."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.ends: collections.Counter[tuple[str, str]] = collections.Counter()
        self.killed: collections.Counter[str] = collections.Counter()
        self.run_again = 0
        self.before: Mapping[str, processes.Usage] = {}
        self.after: Mapping[str, processes.Usage] = {}
        self.shared_memory: list[int] = []
        self.seconds = 0.0

    def show(self) -> None:
        """Prints tables, and a line for each problem."""
        print(f"{sum(self.ends.values())} requests in {self.seconds:.0f} s")
        if self.killed:
            killed = ", ".join(f"{role} {times}" for role, times in sorted(self.killed.items()))
            print(f"killed: {killed}; serve gave up and was run again: {self.run_again} times")
        sizes = [size / 2**20 for size in self.shared_memory] or [0.0]
        print(f"shared memory, MiB: {sizes[0]:.1f} first, {sizes[-1]:.1f} last, {max(sizes):.1f} at most")
        print("\n| kind | ended | times |\n|---|---|---|")
        for (kind, end), count in sorted(self.ends.items()):
            print(f"| {kind} | {end} | {count} |")
        print(
            "\n| before and after | processes | threads | descriptors | memory, MiB |\n|---|---|---|---|---|"
        )
        for role in sorted(self.before.keys() | self.after.keys()):
            old = self.before.get(role, processes.Usage())
            new = self.after.get(role, processes.Usage())
            print(
                f"| {role} | {old.processes}, {new.processes} | {old.threads}, {new.threads} "
                f"| {old.descriptors}, {new.descriptors} | {old.memory_mb:.0f}, {new.memory_mb:.0f} |"
            )
        for problem, count in collections.Counter(self.problems).most_common(40):
            print(f"PROBLEM ({count} times): {problem}")


def main() -> None:
    """Prints how the requests ended; exits with 1 when anything is not as it must be."""
    options = _options()
    report = Report()
    watch = None
    with tempfile.TemporaryDirectory(prefix="tritonllm-load-") as name:
        directory = pathlib.Path(name)
        endpoint = directory / "tiny.yaml"
        engine = SIMULATED if options.simulated else VLLM.format(path=models.tiny_llama(directory / "tiny"))
        endpoint.write_text(ENDPOINT.format(engine=engine, guardrails=json.dumps(traffic.GUARDRAILS)))
        try:
            # Leaving the block checks that no process and no shared memory stays behind.
            script = None if options.kill_every is None else pathlib.Path(serve_again.__file__)
            with server.running([endpoint], script=script) as served:
                watch = leaks.Watch(served)
                asyncio.run(_drive(served, watch, options, report))
                report.run_again = served.log.read_text(errors="replace").count(serve_again.AGAIN)
        except AssertionError as error:
            report.problems.append(f"the server: {error}")
    if watch is not None:
        left = sorted(str(file) for file in watch.socket_files if file.exists())
        report.problems += [f"left behind: the socket {file}" for file in left]
    report.show()
    raise SystemExit(bool(report.problems))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seconds", type=float, help="how long, in place of a number of requests")
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument(
        "--kill-every",
        type=float,
        metavar="SECONDS",
        help="kill a process of a pipeline, guardrail, engine or vLLM core",
    )
    return parser.parse_args()


async def _drive(
    served: server.Served, watch: leaks.Watch, options: argparse.Namespace, report: Report
) -> None:
    chance, interrupted = random.Random(0), options.kill_every is not None

    def new_run(interrupted: bool = False) -> traffic.Run:
        return traffic.Run(served, "tiny", chance, echo=options.simulated, interrupted=interrupted)

    async def calm(requests: int) -> Mapping[str, processes.Usage]:
        """What the server holds when it has answered some requests and is idle again."""
        run = new_run()
        await run.many(range(requests), options.concurrency)
        report.problems += run.problems + await asyncio.to_thread(run.leftovers)
        return processes.usage(served.pid, "supervisor")

    report.before = await calm(WARM_UP_REQUESTS)
    started = time.monotonic()
    numbers: Iterable[int] = range(options.requests)
    if options.seconds is not None:
        until = started + options.seconds
        numbers = itertools.takewhile(lambda _: time.monotonic() < until, itertools.count())
    background = [asyncio.create_task(watch.run())]
    if interrupted:
        kill = kills.kill_now_and_then(served, options.kill_every, random.Random(1), report.killed)
        background.append(asyncio.create_task(kill))
    run = new_run(interrupted)
    await run.many(numbers, options.concurrency)
    report.seconds, report.ends = time.monotonic() - started, run.ends
    report.problems += run.problems
    for task in background:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await asyncio.to_thread(served.until_ready, HEAL_SECONDS)
    report.after = await calm(AFTERWARDS_REQUESTS)
    report.shared_memory = watch.shared_memory
    inherited = options.concurrency if interrupted else 0
    report.problems += leaks.grown(report.before, report.after, inherited)
    if leaks.keeps_growing(watch.shared_memory):
        report.problems.append("shared memory keeps growing")


if __name__ == "__main__":
    main()
