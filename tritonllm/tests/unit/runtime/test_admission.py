"""How many requests run, how many wait, and what one more gets."""

from __future__ import annotations

import threading

import pytest

from tritonllm import errors
from tritonllm.runtime import admission


class Load:
    def __init__(self) -> None:
        self.running = self.waiting = 0
        self.lock = threading.Lock()

    def count(self, running: int, waiting: int) -> None:
        with self.lock:
            self.running += running
            self.waiting += waiting


def test_what_is_over_the_limits_is_refused_at_once_and_the_rest_is_served() -> None:
    load, go, started = Load(), threading.Event(), threading.Barrier(3)
    served: list[int] = []

    def task(number: int) -> None:
        if number < 2:
            started.wait(5)
        go.wait(5)
        served.append(number)

    gate = admission.Gate(2, 3, load.count)
    for number in range(5):
        gate.submit(lambda number=number: task(number))
    started.wait(5)
    assert (load.running, load.waiting) == (2, 3)
    with pytest.raises(errors.RequestError, match=r"\[queue_full\] 3 requests are waiting"):
        gate.submit(lambda: task(9))
    go.set()
    gate.close()
    assert sorted(served) == [0, 1, 2, 3, 4]
    assert (load.running, load.waiting) == (0, 0)


def test_a_place_is_free_again_after_its_task() -> None:
    gate = admission.Gate(1, 0, Load().count)
    for _ in range(20):
        done = threading.Event()
        while True:
            try:
                gate.submit(done.set)
                break
            except errors.RequestError:
                continue
        assert done.wait(5)
    gate.close()
