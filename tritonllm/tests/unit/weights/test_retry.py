"""How long a download goes on asking."""

from __future__ import annotations

import threading
import time

import pytest

from tritonllm.weights import failures, retry


class Hub:
    """Fails some times, and then answers."""

    def __init__(self, fails: int, failure: failures.Failure) -> None:
        self.fails, self.failure, self.asked = fails, failure, 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.fails:
            raise self.failure
        return "here"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setattr(retry, "_FIRST_SECONDS", 1e-6)
    return []


def retries(waits: list[float], most_seconds: float = 5) -> retry.Retries:
    return retry.Retries(most_seconds, lambda failure, seconds: waits.append(seconds))


def test_what_may_pass_is_tried_again(waits: list[float]) -> None:
    hub = Hub(3, failures.HubUnreachable("no", retry=True))
    assert retries(waits).run(hub) == "here"
    assert (hub.asked, len(waits)) == (4, 3)


def test_what_does_not_pass_is_tried_once(waits: list[float]) -> None:
    hub = Hub(1, failures.GatedRepo("no"))
    with pytest.raises(failures.GatedRepo):
        retries(waits).run(hub)
    assert (hub.asked, waits) == (1, [])


def test_the_hub_says_how_long_to_wait(waits: list[float]) -> None:
    hub = Hub(1, failures.RateLimited("no", retry=True, after_seconds=0.05))
    start = time.monotonic()
    retries(waits).run(hub)
    assert time.monotonic() - start >= 0.05
    assert 0.05 <= waits[0] < 0.06


def test_a_wait_beyond_the_limit_is_not_begun(waits: list[float]) -> None:
    hub = Hub(1, failures.RateLimited("no", retry=True, after_seconds=55))
    with pytest.raises(failures.RateLimited):
        retries(waits).run(hub)
    assert (hub.asked, waits) == (1, [])


def test_retries_end_without_progress(waits: list[float]) -> None:
    hub = Hub(10**6, failures.HubUnreachable("no", retry=True, after_seconds=0.3))
    with pytest.raises(failures.HubUnreachable):
        retries(waits, 1.05).run(hub)
    assert 2 <= hub.asked <= 4


def test_progress_starts_it_anew(waits: list[float]) -> None:
    retrying = retries(waits, 0.75)
    asked = 0

    def ask() -> str:
        nonlocal asked
        asked += 1
        if asked == 6:
            return "here"
        retrying.progress()
        raise failures.HubUnreachable("no", retry=True, after_seconds=0.2)

    assert retrying.run(ask) == "here"


def test_one_files_progress_does_not_hurry_the_requests_for_another(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    monkeypatch.setattr(retry, "back_off", lambda attempt: attempts.append(attempt) or 0)
    retrying = retries(waits)

    def other() -> None:
        thread = threading.Thread(target=retrying.progress)
        thread.start()
        thread.join()

    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        other()
        if asked < 4:
            raise failures.HubUnreachable("no", retry=True)

    retrying.run(ask)
    assert attempts == [1, 2, 3]


def test_cancelling_ends_a_wait_at_once(waits: list[float]) -> None:
    waiting = threading.Event()
    retrying = retry.Retries(1000, lambda failure, seconds: waiting.set())
    threading.Thread(target=lambda: waiting.wait(30) and retrying.cancel()).start()
    start = time.monotonic()
    with pytest.raises(retry.Cancelled):
        retrying.run(Hub(1, failures.RateLimited("no", retry=True, after_seconds=100)))
    assert time.monotonic() - start < 30


def test_waits_grow_to_a_limit_and_differ() -> None:
    assert all(0 <= retry.back_off(attempt) <= 60 for attempt in range(1, 2000))
    assert max(retry.back_off(1) for _ in range(100)) <= 2
    assert len({retry.back_off(8) for _ in range(10)}) == 10
