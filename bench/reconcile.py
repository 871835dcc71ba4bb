"""What it costs the operator to look at endpoints that are as they should be, and how fast an edit is live.

Both against a real API server. The pods' Tritons hold configurations and load none, in this process, which takes as
much of the machine as the operator: with `--real`, edits go to pods that `tritonllm serve` runs.

    python bench/reconcile.py [--endpoints 1000 5000] [--edits 50] [--real]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

import httpx
import psutil

for place in ("tritonllm", "operator", "charts"):
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / place / "tests"))

import api_server
import crds
import fleet
import model_control
import pool

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
        with fleet.of(client, namespaces(client, NAMESPACES), grid, pools, PER_POOL, PODS) as made:
            print(f"made {endpoints} endpoints in {time.monotonic() - began:.0f} s", file=sys.stderr)
            with pool.operating(server, directory) as operator:
                pool.until(lambda: fleet.settled(made), operator.story, 1200)
                print(f"first statuses after {time.monotonic() - began:.0f} s", file=sys.stderr)
                operator.stop()
                began = time.monotonic()
                operator.start()
                pool.until(lambda: operator.count("tritonllm_operator_endpoints") >= endpoints, operator.story, 600)
                seconds = time.monotonic() - began
                # What it does when it has looked at everything once counts as well.
                operator.until_looked(pools)
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


def peak_memory(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def table(head: list[str], rows: list[list[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, nargs="*", default=[1000, 5000])
    chosen = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}\n")
    if chosen.endpoints:
        head = ["unchanged endpoints", "after a restart, all seen", "CPU", "reads", "writes", "memory", "peak"]
        table(head, [restart(count) for count in chosen.endpoints])


if __name__ == "__main__":
    main()
