"""Thousands of mixed requests against the real server: each must end in exactly one way, and leave nothing.

    python bench/load.py [--requests 5000] [--concurrency 200] [--simulated]

Real Triton, real vLLM, the tiny random Llama. The kinds are mixed at random, the same way every time:
guarded, refused, cancelled, invalid and long requests, over HTTP and gRPC. With `--simulated` the engine costs nothing
and makes a thousand tokens a second for each of them: several copies side by side, as many as there are cores, show
what goes wrong between processes that wait for a core.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import pathlib
import random
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests"))

import models
from integration import server, traffic

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
    "engine: {type: simulated, args: {max_model_len: 512, max_num_seqs: 64, inter_token_seconds: 0.001}}"
)


def main() -> None:
    """Prints how the requests ended; exits with 1 when anything is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--simulated", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tritonllm-load-") as name:
        directory = pathlib.Path(name)
        endpoint = directory / "tiny.yaml"
        engine = SIMULATED if options.simulated else VLLM.format(path=models.tiny_llama(directory / "tiny"))
        endpoint.write_text(ENDPOINT.format(engine=engine, guardrails=json.dumps(traffic.GUARDRAILS)))
        # Leaving the block checks that no process and no shared memory stays behind.
        with server.running([endpoint]) as served:
            started = time.monotonic()
            run = traffic.Run(served, "tiny", random.Random(0))
            asyncio.run(run.many(options.requests, options.concurrency))
            seconds = time.monotonic() - started
            problems = run.problems + run.leftovers()
            memory = sum(
                path.stat().st_blocks * 512
                for name in server.owned(served.pid)
                for path in pathlib.Path("/dev/shm").glob(f"{name}*")
            )
    print(
        f"{options.requests} requests, {options.concurrency} at a time, {seconds:.0f} s; "
        f"shared memory at the end {memory / 2**20:.1f} MB"
    )
    print("| kind | ended | times |\n|---|---|---|")
    for (kind, end), count in sorted(run.ends.items()):
        print(f"| {kind} | {end} | {count} |")
    for problem, count in collections.Counter(problems).most_common(20):
        print(f"PROBLEM ({count} times): {problem}")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
