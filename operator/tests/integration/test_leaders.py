"""Two operators at once: one acts, the other stands by until it is its turn."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import pool
from api_server import ApiServer
from pool import Operator, Pool, endpoint, until

LEASE_SECONDS = 20


@pytest.fixture
def two(api_server: ApiServer, llm: Pool, tmp_path: Path) -> Iterator[tuple[Operator, Operator]]:
    """The one that leads and the one that stands by, with a pool that serves."""
    with contextlib.ExitStack() as stack:

        def operator(identity: str) -> Operator:
            (tmp_path / identity).mkdir()
            settings = {"TRITONLLM_LEASE": f"{llm.name}/operator", "TRITONLLM_IDENTITY": identity}
            return stack.enter_context(
                pool.operating(api_server, tmp_path / identity, llm.name, settings=settings)
            )

        llm.as_left(endpoint())
        llm.run()
        first = operator("first")
        until(first.passes, first.story)
        second = operator("second")
        until(lambda: "waits for the Lease" in second.story(), second.story)
        yield first, second


def edited(llm: Pool, leader: Operator, word: str) -> None:
    llm.ban("chat", word)
    until(llm.as_wanted, lambda: (llm.status(), leader.story()))


def test_one_acts_and_the_other_follows_at_once_when_it_ends_in_order(
    llm: Pool, two: tuple[Operator, Operator]
) -> None:
    first, second = two
    edited(llm, first, "one")
    assert second.passes() == second.writes() == 0
    first.stop()
    until(second.passes, second.story, LEASE_SECONDS / 2)
    edited(llm, second, "two")
    # The former one is back, and stands by.
    first.start()
    until(first.metrics, first.story)
    edited(llm, second, "three")
    assert first.passes() == first.writes() == 0


def test_one_that_stood_still_while_the_other_took_over_ends_without_a_write(
    llm: Pool, two: tuple[Operator, Operator]
) -> None:
    first, second = two
    os.kill(first.pid, signal.SIGSTOP)
    llm.ban("chat", "stopped")
    until(llm.as_wanted, second.story, 3 * LEASE_SECONDS)
    before = llm.versions()
    os.kill(first.pid, signal.SIGCONT)
    until(lambda: "is held by second" in first.story(), first.story)
    assert first.wait() == 1
    edited(llm, second, "moved on")
    assert before != llm.versions()
