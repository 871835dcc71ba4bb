"""A background thread that fails says so."""

from __future__ import annotations

import threading

import pytest

from tritonllm.serve import threads


def test_a_failure_is_handed_over_and_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[Exception] = []

    def target() -> None:
        raise ValueError("broken")

    threads.start("worker", target, failures.append).join(30)
    assert [str(failure) for failure in failures] == ["broken"]
    assert "thread worker failed" in caplog.text
    assert 'raise ValueError("broken")' in caplog.text


def test_a_thread_that_succeeds_reports_nothing() -> None:
    ran = threading.Event()
    thread = threads.start("worker", ran.set, lambda error: pytest.fail(str(error)))
    thread.join(30)
    assert ran.is_set()
    assert (thread.name, thread.daemon) == ("worker", True)
