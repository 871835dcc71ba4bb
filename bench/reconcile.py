"""What it costs the operator to look at endpoints that are as they should be, and how fast an edit is live.

Both against a real API server. The pods' Tritons hold configurations and load none, in this process, which takes as
much of the machine as the operator: with `--real`, edits go to pods that `tritonllm serve` runs.

    python bench/reconcile.py [--endpoints 1000 5000] [--edits 50] [--real]
"""

from __future__ import annotations

import argparse
import compileall
import concurrent.futures
import contextlib
import datetime
import os
import pathlib
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import tritonclient.grpc as triton

import tritonllm
import tritonllm_operator
from tritonllm.serve import api_lock
from tritonllm_operator import revisions

sys.path.extend(str(pathlib.Path(__file__).parents[1] / place / "tests") for place in ("tritonllm", "charts"))
# First, as this folder has a `serving`, too.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "operator" / "tests"))

import api_server
import crds
import fleet
import model_control
import pool
import serving

PER_POOL = 50
NAMESPACES = 5
PODS = 3


@contextlib.contextmanager
def cluster() -> Iterator[tuple[api_server.ApiServer, httpx.Client, pathlib.Path]]:
    """An API server of its own, which knows LLMEndpoints."""
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as name:
        directory = pathlib.Path(name)
        (directory / "api").mkdir()
        with api_server.running(directory / "api") as server, server.client() as client:
            crds.install(client)
            yield server, client, directory


def namespaces(client: httpx.Client, count: int) -> list[str]:
    names = [f"bench-{number}" for number in range(count)]
    for name in names:
        client.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    return names


def restart(endpoints: int) -> list[str]:
    """A restart of the operator with so many endpoints: seconds, requests, memory."""
    pools = max(1, endpoints // PER_POOL)
    with cluster() as (server, client, directory), model_control.running() as grid:
        began = time.monotonic()
        with fleet.of(client, namespaces(client, NAMESPACES), grid, pools, PER_POOL, PODS):
            print(f"made {endpoints} endpoints in {time.monotonic() - began:.0f} s", file=sys.stderr)
            with pool.operating(server, directory) as operator:
                began = time.monotonic()
                # Not more often: each look at the metrics costs both processes some milliseconds.
                pool.until(
                    lambda: operator.count("tritonllm_operator_endpoints") >= endpoints,
                    operator.story,
                    600,
                    every=0.25,
                )
                seconds = time.monotonic() - began
                print(f"looked at all after {seconds:.0f} s", file=sys.stderr)
                # What it does when it has looked at everything once counts as well.
                looked = -1.0
                while looked != operator.passes():
                    looked = operator.passes()
                    time.sleep(3)
                process = psutil.Process(operator.pid)
                used = process.cpu_times()
                reads = operator.count("tritonllm_operator_api_requests_total", method="GET")
                peak = peak_memory(operator.pid)
                return [
                    f"{endpoints:,} in {pools} pools",
                    f"{seconds:.1f} s",
                    f"{used.user + used.system:.1f} s",
                    f"{reads:,.0f}",
                    f"{operator.writes():,.0f}",
                    f"{process.memory_info().rss / 1e6:.0f} MB",
                    f"{peak / 1e6:.0f} MB",
                ]


def edits(count: int, real: bool) -> list[list[str]]:
    """How long policy edits take from `apply` until all pods have them."""
    with (
        cluster() as (server, client, directory),
        model_control.running() as grid,
        contextlib.ExitStack() as stack,
    ):
        llm = pool.Pool(client, namespaces(client, 1)[0], grid, pods=PODS)
        if real:
            llm.install()
            llm.create("llmendpoints", pool.endpoint())
        else:
            llm.as_left(pool.endpoint())
        stack.callback(llm.close)
        operator = stack.enter_context(pool.operating(server, directory))
        addresses = [triton.address for triton in llm.tritons.values()]
        if real:
            pool.until(lambda: llm.get("configmaps", "llm-endpoints"), operator.story)
            addresses = serving.ADDRESSES[:PODS]
            for number, address in enumerate(addresses):
                stack.enter_context(serving.pod(llm, number, address, directory))
        pool.until(llm.told, operator.story, 120)
        pods = [stack.enter_context(Pod(address)) for address in addresses]
        taken = [edit(llm, pods, f"word{number}") for number in range(count)]
        pool.until(llm.told, operator.story)
        bare = [load(pods, f"bare{number}") for number in range(max(5, count // 5))]
        kind = "`tritonllm serve`" if real else "nothing to start"
        return [
            [
                f"{PODS} pods, {kind}: {what}",
                str(len(times)),
                *(f"{quantile(times, q):.2f} s" for q in (0.5, 0.99)),
            ]
            for what, times in (("an edit, from apply to live on all", taken), ("the loads alone", bare))
        ]


class Pod:
    """A pod, asked and changed by its Triton's own API."""

    def __init__(self, address: str) -> None:
        self._headers = api_lock.Lock(model_control.SECRET).grpc_headers()
        self._client = triton.InferenceServerClient(f"{address}:{model_control.PORT}")

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def holds(self, model: str, spec_hash: str) -> bool:
        """Whether a model runs with a configuration."""
        answer: Any = self._client.get_model_config(model, headers=self._headers)
        return answer.config.parameters["spec_hash"].string_value == spec_hash

    def load(self, model: str, config: str) -> None:
        """Loads a model."""
        self._client.load_model(model, headers=self._headers, config=config)


def edit(llm: pool.Pool, pods: list[Pod], phrase: str) -> float:
    """Seconds until an edited policy is live on all pods."""
    wanted = revisions.hashes(pool.valid(pool.endpoint(phrases=[phrase])))
    began = time.monotonic()
    llm.ban("chat", phrase)
    for model in ("chat", "chat-guardrail"):
        for pod in pods:
            while not pod.holds(model, wanted[model]):
                time.sleep(0.005)
    return time.monotonic() - began


def load(pods: list[Pod], phrase: str) -> float:
    """Seconds that the loads of such an edit take when nobody has to notice it."""
    endpoint = pool.valid(pool.endpoint(phrases=[phrase]))
    jobs = [
        (pod, model, revisions.model_config(endpoint, model))
        for pod in pods
        for model in ("chat", "chat-guardrail")
    ]
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as threads:
        began = time.monotonic()
        list(threads.map(lambda job: job[0].load(*job[1:]), jobs))
        return time.monotonic() - began


def quantile(times: list[float], share: float) -> float:
    """The time within which that share of all are."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def peak_memory(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def table(head: list[str], rows: list[list[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoints", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--real", action="store_true", help="edits of pods that `tritonllm serve` runs, too")
    chosen = parser.parse_args()
    # As images have it. Each process that a load starts would otherwise compile what it imports.
    for package in (tritonllm, tritonllm_operator):
        compileall.compile_dir(package.__path__[0], quiet=1)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}\n")
    if chosen.endpoints:
        head = [
            "unchanged endpoints",
            "after a restart, all seen",
            "CPU",
            "reads",
            "writes",
            "memory",
            "peak",
        ]
        table(head, [restart(count) for count in chosen.endpoints])
    if chosen.edits:
        rows = edits(chosen.edits, real=False) + (edits(chosen.edits, real=True) if chosen.real else [])
        print()
        table(["policy edits", "edits", "p50", "p99"], rows)


if __name__ == "__main__":
    main()
