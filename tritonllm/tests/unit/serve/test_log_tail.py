"""What the newest lines of the log say about a load."""

from __future__ import annotations

import pytest

from tritonllm.serve import log_tail

CRASH = [
    "INFO 11-27 10:00:01 [gpu_worker.py:1] Loading weights",
    "ERROR 11-27 10:00:02 [multiproc_executor.py:7] WorkerProc failed to start.",
    "Traceback (most recent call last):",
    "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
    "INFO 11-27 10:00:03 [shm_broadcast.py:2] No available shared memory broadcast block found in 60 seconds",
]


def test_lines_are_counted_from_the_beginning_and_old_ones_are_dropped() -> None:
    log = log_tail.LogTail(kept=3)
    for line in "abcde":
        log.append(line)
    assert log.position() == 5
    assert (log.since(4), log.since(3), log.since(0), log.since(5)) == (
        ["e"],
        ["d", "e"],
        ["c", "d", "e"],
        [],
    )
    assert (log.last(2), log.last(9)) == (["d", "e"], ["c", "d", "e"])


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (CRASH, "AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (CRASH[:2], "ERROR 11-27 10:00:02 [multiproc_executor.py:7] WorkerProc failed to start."),
        (CRASH[:1], ""),
        ([], ""),
        (["ERROR " + "x" * 1000], "ERROR " + "x" * 294),
    ],
    ids=["exception", "message", "none", "empty", "long"],
)
def test_the_last_error_is_an_exception_or_a_message(lines: list[str], error: str) -> None:
    assert log_tail.last_error(lines) == error


def test_the_newest_line_is_not_a_blank_one() -> None:
    assert log_tail.newest(["a", " INFO waiting ", "", " "]) == "INFO waiting"
    assert log_tail.newest(["x" * 1000]) == "x" * 300
    assert log_tail.newest([]) == ""
