"""Which processes the reaper takes for those of a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritonllm.serve import reaper

REGION = "tritonllm-0123456789ab-region-"
DIRECTORY = "/tmp/tritonllm-0123456789ab"


@pytest.mark.parametrize(
    ("command", "belongs"),
    [
        (
            [
                "/opt/tritonserver/bin/tritonserver",
                f"--backend-config=python,shm-region-prefix-name={REGION}",
            ],
            True,
        ),
        (["/x/backends/python/triton_python_backend_stub", "/repo/chat/1/model.py", f"{REGION}7"], True),
        (
            ["tritonserver", "--backend-config=python,shm-region-prefix-name=tritonllm-ba9876543210-region-"],
            False,
        ),
        (["python", "-m", "tritonllm", "gateway", f"--run-directory={DIRECTORY}"], True),
        (["python", "-m", "tritonllm", "gateway", "--run-directory=/tmp/tritonllm-ba9876543210"], False),
        (["watch", f"ls /dev/shm/{REGION}*"], False),
        (["bash", "-c", f"tritonserver {REGION}"], False),
        (["vim", "tritonserver", REGION], False),
        ([""], False),
    ],
    ids=[
        "server",
        "model",
        "another run",
        "gateway",
        "gateway of another run",
        "watch",
        "shell",
        "editor",
        "gone",
    ],
)
def test_only_tritonserver_its_models_and_the_gateway_belong_to_a_run(
    command: list[str], belongs: bool
) -> None:
    assert reaper.belongs(command, REGION, DIRECTORY) is belongs


def test_the_session_of_a_server_ends_and_that_of_a_process_which_mentions_it_stays() -> None:
    script = "import sys, time; time.sleep(600)"
    server = subprocess.Popen(
        ["tritonserver", "-c", script, REGION], executable=sys.executable, start_new_session=True
    )
    admin = subprocess.Popen(
        ["admin", "-c", script, REGION], executable=sys.executable, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while REGION not in Path(f"/proc/{server.pid}/cmdline").read_text():
            assert time.monotonic() < deadline
        # It ends when no process is left that is not a zombie.
        reaper.end_sessions(REGION, DIRECTORY)
        assert server.wait(10) == -signal.SIGKILL
        assert admin.poll() is None
    finally:
        for process in (server, admin):
            process.kill()
            process.wait(10)
