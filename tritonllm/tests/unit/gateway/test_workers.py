"""Several workers: one set of metrics, whichever of them is asked and whatever becomes of the others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import gateway_workers


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, gateway_workers.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()
        lines = process.stdout.read().splitlines()
        assert process.wait(60) in (0, -signal.SIGTERM)
    assert {json.loads(line)["route"] for line in lines} <= {"/worker", "/wait"}
    assert list(tmp_path.iterdir()) == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def metrics(url: str) -> dict[str, float]:
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def test_any_worker_answers_for_all_and_those_of_a_killed_one_are_not_counted_as_running(
    program: tuple[subprocess.Popen[str], str],
) -> None:
    _, url = program
    asked = 0
    seen: set[int] = set()

    def both_answer() -> bool:
        nonlocal asked
        with contextlib.suppress(httpx.TransportError):
            seen.add(int(httpx.get(f"{url}/worker", timeout=30).text))
            asked += 1
        return len(seen) == 2

    until(both_answer)
    total = 'tritonllm_gateway_requests_total{endpoint="chat",key="",route="/worker",status="200"}'
    # A request is counted when its answer has been sent, and may have been read before.
    until(lambda: metrics(url).get(total) == asked)

    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: metrics(url)["tritonllm_gateway_requests_running"] == 2)
        for pid in seen:
            os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return metrics(url)["tritonllm_gateway_requests_running"] == 1
            return False

        until(replaced)
    assert metrics(url)[total] == asked
