"""How many requests run, how many wait, and what one more gets."""

from __future__ import annotations

import pytest

from tritonllm import errors
from tritonllm.runtime import admission


class Load:
    def __init__(self) -> None:
        self.running = self.waiting = 0

    def count(self, running: int, waiting: int) -> None:
        self.running += running
        self.waiting += waiting

    @property
    def now(self) -> tuple[int, int]:
        return self.running, self.waiting


def test_requests_beyond_the_limits_are_refused_and_the_others_run_in_order() -> None:
    load = Load()
    queue: admission.AdmissionQueue[int] = admission.AdmissionQueue(2, 3, load.count)
    assert [queue.enter(number) for number in range(5)] == [True, True, False, False, False]
    assert load.now == (2, 3)
    with pytest.raises(errors.RequestError, match=r"\[queue_full\] 3 requests are waiting"):
        queue.enter(9)
    assert [queue.leave(number) for number in range(5)] == [2, 3, 4, None, None]
    assert load.now == (0, 0)


def test_a_request_that_leaves_while_it_waits_makes_room_in_the_queue() -> None:
    load = Load()
    queue: admission.AdmissionQueue[str] = admission.AdmissionQueue(1, 2, load.count)
    for name in ("runs", "gives up", "waits"):
        queue.enter(name)
    assert queue.leave("gives up") is None
    assert load.now == (1, 1)
    assert queue.enter("new") is False
    assert queue.leave("runs") == "waits"
    assert queue.leave("waits") == "new"


def test_without_a_queue_what_can_not_run_is_refused() -> None:
    queue: admission.AdmissionQueue[int] = admission.AdmissionQueue(1, 0, Load().count)
    assert queue.enter(1)
    with pytest.raises(errors.RequestError):
        queue.enter(2)
    assert queue.leave(1) is None
    assert queue.enter(3)
