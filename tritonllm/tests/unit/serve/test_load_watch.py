"""The progress of a load, and an engine that waits for a worker which died."""

from __future__ import annotations

import pytest

from fake_reports import Reports
from tritonllm.serve import load_watch, log_tail
from tritonllm.serve.model_states import ModelStates, Phase


class Loading:
    """An engine that is being loaded, with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log = log_tail.LogTail()
        self.log.append("ValueError: before the load")
        self.states = ModelStates(["chat-engine"], self.log.position, lambda: self.now)
        self.states.set("chat-engine", Phase.LOADING)
        self.reports = Reports()
        self.watch = load_watch.LoadWatch(self.states, self.log, self.reports)  # pyright: ignore[reportArgumentType]

    def at(self, now: float, workers: set[int] | None = None) -> tuple[str, str] | None:
        self.now = now
        if workers is not None:
            return self.watch.hung({"chat-engine": frozenset(workers)}, now)
        self.watch.report(now)
        return None


@pytest.fixture
def loading() -> Loading:
    return Loading()


def test_progress_is_reported_every_few_seconds_with_the_newest_line(loading: Loading) -> None:
    for now in (101, 109, 110, 111, 119):
        loading.at(now)
    assert loading.reports.lines == ["chat-engine is being loaded (for 10 s)"]
    loading.log.append("INFO Loading weights 40%")
    loading.at(120)
    assert loading.reports.lines[1:] == [
        "chat-engine is being loaded (for 20 s); log: INFO Loading weights 40%"
    ]


def test_the_stage_of_a_load_is_told_without_text_of_the_log(loading: Loading) -> None:
    assert loading.watch.stages() == {}
    loading.log.append("INFO Capturing CUDA graphs (PIECEWISE): 40%")
    loading.log.append("RuntimeError: no answer")
    assert loading.watch.stages() == {"chat-engine": "capturing CUDA graphs, 40 %"}
    loading.states.set("chat-engine", Phase.LOADED)
    assert loading.watch.stages() == {}


def test_errors_from_before_the_load_are_not_its_own(loading: Loading) -> None:
    assert loading.watch.progress(loading.states.statuses()["chat-engine"]) == ""


def test_a_loaded_model_has_no_progress(loading: Loading) -> None:
    loading.states.set("chat-engine", Phase.LOADED)
    loading.log.append("ValueError: of a request")
    loading.at(500)
    assert loading.reports.lines == []
    assert loading.watch.progress(loading.states.statuses()["chat-engine"]) == ""
    assert loading.watch.loading() == []


def test_an_engine_whose_worker_died_with_an_error_is_hung_after_a_grace_period(loading: Loading) -> None:
    loading.at(110, {1, 2})
    loading.log.append("AcceleratorError: CUDA error: an illegal memory access")
    assert loading.at(120, {1}) is None
    assert loading.at(179, {1}) is None
    assert loading.at(180, {1}) == (
        "chat-engine",
        "a worker process died while it was being loaded"
        "; last error: AcceleratorError: CUDA error: an illegal memory access",
    )


def test_a_worker_that_ends_without_an_error_is_no_hang(loading: Loading) -> None:
    loading.at(110, {1, 2})
    assert [loading.at(now, {1}) for now in (120, 200, 2000)] == [None] * 3


def test_an_engine_that_keeps_its_workers_is_not_hung(loading: Loading) -> None:
    loading.log.append("ERROR something harmless")
    assert [loading.at(now, {1, 2}) for now in (110, 200, 2000)] == [None] * 3


def test_a_load_that_ends_is_forgotten(loading: Loading) -> None:
    loading.at(110, {1, 2})
    loading.log.append("ValueError: no")
    loading.at(120, {1})
    assert loading.watch.hung({}, 121) is None
    assert [loading.at(now, {7}) for now in (122, 300)] == [None, None]
