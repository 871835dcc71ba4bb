"""A model whose thread has ended, or whose event loop is stuck, does not go on as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    script = f"import time\nfrom tritonllm.runtime import threads\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def test_a_thread_that_fails_ends_the_process_with_its_reason() -> None:
    ended = run(
        "def broken(): raise ValueError('out of luck')\nthreads.start('metrics', broken)\ntime.sleep(30)"
    )
    assert ended.returncode == 1
    assert "the thread metrics failed" in ended.stderr
    assert "ValueError: out of luck" in ended.stderr


@pytest.mark.parametrize(
    "stuck",
    [
        "time.sleep(30)",
        # With the GIL in its hands: libc's sleep called as a Python function.
        "__import__('ctypes').PyDLL(None).sleep(30)",
    ],
)
def test_an_event_loop_that_is_stuck_prints_its_stacks_and_ends_the_process(stuck: str) -> None:
    ended = run(
        f"events = threads.EventLoop('dispatcher')\nevents.watch(1.0)\nevents.call(lambda: {stuck})\ntime.sleep(30)"
    )
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "lambda" in ended.stderr


def test_an_event_loop_that_works_is_left_alone() -> None:
    ended = run(
        "threads._BEAT_SECONDS = 0.1\nevents = threads.EventLoop('dispatcher')\nevents.watch(3.0)\n"
        "time.sleep(5)\nevents.close()\nprint('closed')"
    )
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr
