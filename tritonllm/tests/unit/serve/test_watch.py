"""Whether a process's end is a loss, and when to give up."""

from __future__ import annotations

import pytest

from tritonllm.serve import control_api, watch


def pids(**models: int) -> dict[str, frozenset[int]]:
    return {model: frozenset(range(1, count + 1)) for model, count in models.items() if count}


def one(model: str, pids: frozenset[int]) -> int:
    return 1


@pytest.mark.parametrize(
    ("state", "processes", "lost"),
    [
        ("READY", 1, []),
        ("READY", 0, ["chat"]),
        ("READY", 2, []),
        ("UNLOADING", 0, []),
        ("UNAVAILABLE", 0, []),
        ("LOADING", 0, []),
    ],
    ids=["alive", "killed", "old one beside new", "unloading", "unloaded", "loading"],
)
def test_only_a_ready_model_without_a_process_is_lost(state: str, processes: int, lost: list[str]) -> None:
    assert watch.dead_models({"chat": state}, pids(chat=processes), one) == lost


def test_an_unload_between_two_looks_is_no_loss() -> None:
    indexes = iter([{"chat": "READY"}, {"chat": "UNAVAILABLE"}])
    assert watch.confirmed_dead_models(lambda: next(indexes), dict, one) == []


def test_a_killed_process_is_a_loss_at_the_second_look_too() -> None:
    assert watch.confirmed_dead_models(lambda: {"chat": "READY"}, dict, one) == ["chat"]


def test_triton_is_asked_when_a_process_is_gone() -> None:
    trigger = watch.ProbeTrigger(every=1000)
    assert trigger.should_check(pids(a=1), now=0)
    assert not trigger.should_check(pids(a=1), now=1)
    assert trigger.should_check({}, now=2)
    assert not trigger.should_check({}, now=3)


def test_triton_is_asked_now_and_then_anyway() -> None:
    trigger = watch.ProbeTrigger(every=2)
    assert [trigger.should_check({}, now) for now in (0, 1, 2.5, 3)] == [True, False, True, False]


def test_triton_is_asked_again_after_it_did_not_answer() -> None:
    trigger = watch.ProbeTrigger(every=1000)
    trigger.should_check({}, now=0)
    trigger.retry()
    assert trigger.should_check({}, now=1)


def test_new_starts_wait_longer_each_time_and_end() -> None:
    budget = watch.RestartBudget(limit=3, window=600)
    assert [budget.delay(now) for now in (0, 1, 2, 3)] == [0, 1, 3, None]


def test_old_starts_are_forgotten() -> None:
    budget = watch.RestartBudget(limit=1, window=600)
    assert [budget.delay(now) for now in (0, 599, 601)] == [0, None, 0]


class Triton:
    """A control that answers from a script, and notes what it was asked."""

    def __init__(self, states: list[str], load: Exception | None = None) -> None:
        self._states = states
        self._load = load
        self.asked: list[str] = []

    def config(self, model: str, seconds: float) -> str:
        return '{"changed": "in place"}'

    def unload(self, model: str, seconds: float) -> None:
        self.asked.append("unload")

    def index(self, seconds: float) -> dict[str, str]:
        return {"chat": self._states.pop(0) if len(self._states) > 1 else self._states[0]}

    def load(self, model: str, config: str | None = None, seconds: float | None = None) -> None:
        if self._load:
            raise self._load
        self.asked.append(f"load {config}")


@pytest.mark.parametrize("step", ["config", "unload", "index", "load"])
def test_a_triton_that_does_not_answer_in_time_is_restarted(step: str) -> None:
    triton = Triton(["UNAVAILABLE"])

    def time_out(*_: object) -> None:
        raise control_api.TimedOut("no answer within 30 s")

    setattr(triton, step, time_out)
    with pytest.raises(watch.RecoveryFailed):
        watch.heal(triton, "chat", orphans_gone=lambda: True, load_timeout=60)  # pyright: ignore[reportArgumentType]


def test_a_model_comes_back_with_the_configuration_it_had() -> None:
    triton = Triton(["UNLOADING", "UNLOADING", "UNAVAILABLE"])
    watch.heal(triton, "chat", orphans_gone=lambda: True, load_timeout=60)  # pyright: ignore[reportArgumentType]
    assert triton.asked == ["unload", 'load {"changed": "in place"}']


@pytest.mark.parametrize(
    ("triton", "orphans_gone", "reason"),
    [
        (Triton(["UNLOADING"]), True, "requests in flight keep it from unloading"),
        (Triton(["UNAVAILABLE"]), False, "processes that it had started do not end"),
        (Triton(["UNAVAILABLE"], control_api.Refused("no room")), True, "no room"),
    ],
    ids=["pinned", "orphans", "does not load"],
)
def test_what_can_not_be_healed_says_why(
    triton: Triton, orphans_gone: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_UNLOAD_SECONDS", 0.1)
    with pytest.raises(watch.RecoveryFailed, match=reason):
        watch.heal(triton, "chat", orphans_gone=lambda: orphans_gone, load_timeout=60)  # pyright: ignore[reportArgumentType]


def test_a_model_that_has_lost_one_of_its_processes_is_dead() -> None:
    index = {"chat": "READY", "code": "READY"}
    alive = pids(chat=2, code=1)
    assert watch.dead_models(index, alive, lambda model, _: {"chat": 3, "code": 1}[model]) == ["chat"]
