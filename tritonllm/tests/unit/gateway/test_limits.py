"""The limits of a key, on a clock of the test's own."""

from __future__ import annotations

from tritonllm.gateway.keys import Key
from tritonllm.gateway.limits import KeyUsage, Limiter

HASH = "0" * 64


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def key(**limits: int) -> Key:
    return Key.model_validate({"sha256": HASH, **limits})


def usage(clock: Clock, workers: int = 1, **limits: int) -> KeyUsage:
    return Limiter(workers, clock).usage("team-a", key(**limits))


def begun(found: KeyUsage, times: int) -> int:
    """How many of so many requests are let through, each ended at once."""
    count = 0
    for _ in range(times):
        if found.begin() is None:
            count += 1
            found.end(0)
    return count


def test_a_key_without_limits_is_never_refused() -> None:
    assert begun(usage(Clock()), 1000) == 1000


def test_requests_beyond_those_of_a_minute_are_refused_until_there_is_room_again() -> None:
    clock = Clock()
    found = usage(clock, requestsPerMinute=6)
    assert begun(found, 10) == 6
    refusal = found.begin()
    assert refusal is not None
    assert refusal.retry_after == 10
    assert "6 requests per minute" in refusal.message
    assert "10 s" in refusal.message

    clock.now += 9
    refusal = found.begin()
    assert refusal is not None
    assert refusal.retry_after == 1
    clock.now += 1
    assert begun(found, 10) == 1
    clock.now += 3600
    assert begun(found, 10) == 6


def test_tokens_are_counted_when_an_answer_ends_and_refuse_the_next_request() -> None:
    clock = Clock()
    found = usage(clock, tokensPerMinute=600)
    assert found.begin() is None
    found.end(tokens=700)
    refusal = found.begin()
    assert refusal is not None
    assert "600 tokens per minute" in refusal.message
    # 101 tokens at 10 per second.
    assert refusal.retry_after == 11
    clock.now += 11
    assert begun(found, 1) == 1


def test_a_request_that_is_refused_uses_nothing() -> None:
    clock = Clock()
    found = usage(clock, requestsPerMinute=2, concurrentRequests=1)
    assert found.begin() is None
    assert all(found.begin() is not None for _ in range(10))
    found.end(0)
    assert begun(found, 2) == 1


def test_as_many_requests_as_allowed_are_in_progress_at_once() -> None:
    found = usage(Clock(), concurrentRequests=2)
    assert found.begin() is None
    assert found.begin() is None
    refusal = found.begin()
    assert refusal is not None
    assert refusal.retry_after == 1
    assert "2 requests in progress" in refusal.message
    found.end(0)
    assert found.begin() is None


def test_each_worker_enforces_its_share() -> None:
    found = usage(Clock(), workers=4, requestsPerMinute=40, concurrentRequests=8)
    assert begun(found, 100) == 10
    found = usage(Clock(), workers=4, concurrentRequests=8)
    assert [found.begin() is None for _ in range(3)] == [True, True, False]


def test_a_share_is_never_nothing() -> None:
    found = usage(Clock(), workers=8, requestsPerMinute=2, concurrentRequests=2)
    assert begun(found, 10) == 1


def test_a_changed_entry_changes_the_limits_and_not_what_is_used() -> None:
    clock = Clock()
    limiter = Limiter(1, clock)
    before = limiter.usage("team-a", key(requestsPerMinute=10))
    assert begun(before, 6) == 6

    after = limiter.usage("team-a", key(requestsPerMinute=20, concurrentRequests=1))
    assert after is before
    assert begun(after, 100) == 14
    assert begun(limiter.usage("team-a", key(requestsPerMinute=5)), 100) == 0
    assert begun(limiter.usage("team-a", key()), 100) == 100


def test_keys_do_not_share_limits() -> None:
    limiter = Limiter(1, Clock())
    entry = key(requestsPerMinute=1)
    assert begun(limiter.usage("a", entry), 5) == 1
    assert begun(limiter.usage("b", entry), 5) == 1
