"""What the two probes answer, as tables: no server, no process."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request

import pytest

from tritonllm import api
from tritonllm.serve import desired, health, health_port
from tritonllm.serve.model_states import ModelStates, ModelStatus, Phase

MODELS = ("chat-engine", "chat-guardrail", "chat")


def endpoint(name: str) -> api.LLMEndpoint:
    spec = {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}}
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": spec}
    )


@pytest.mark.parametrize(
    ("boot", "files", "expected"),
    [
        (["chat"], ["chat"], {"chat": ("chat", "chat-engine", "chat-guardrail")}),
        (["chat", "code"], ["code"], {"code": ("code", "code-engine", "code-guardrail")}),
        (["chat"], ["chat", "added-later"], {"chat": ("chat", "chat-engine", "chat-guardrail")}),
        (["chat"], [], {}),
    ],
    ids=["all", "one was removed", "one was added", "all were removed"],
)
def test_a_pod_must_have_what_it_booted_and_is_still_wanted(
    boot: list[str], files: list[str], expected: dict[str, tuple[str, ...]]
) -> None:
    booted = [model for name in boot for model in (name, f"{name}-engine", f"{name}-guardrail")]
    assert desired.required_models(booted, [endpoint(name) for name in files]) == expected


@pytest.mark.parametrize(
    ("phase", "reason", "triton", "sentence"),
    [
        (Phase.WAITING, "", False, "chat is waiting to be loaded (for 7 s)"),
        (Phase.LOADING, "", False, "chat is being loaded (for 7 s)"),
        (Phase.LOADED, "", False, "chat is loaded, but Triton does not report it as ready"),
        (Phase.FAILED, "no weights", False, "chat could not be loaded: no weights"),
        # Triton 24.10 reports a model as ready whose process is dead.
        (Phase.HEALING, "", True, "chat lost its process and is being reloaded (for 7 s)"),
    ],
)
def test_what_is_not_ready_is_named_with_the_reason(
    phase: Phase, reason: str, triton: bool, sentence: str
) -> None:
    statuses = {"chat": ModelStatus(phase, 100.0, reason)}
    assert health.readiness({"chat": ["chat"]}, statuses, lambda _: triton, now=107.0) == (False, [sentence])


def test_it_is_ready_when_every_required_model_is() -> None:
    statuses = {
        "chat": ModelStatus(Phase.LOADED, 0),
        "gone": ModelStatus(Phase.FAILED, 0, "not wanted any more"),
    }
    assert health.readiness({"chat": ["chat"]}, statuses, lambda _: True, now=1.0) == (True, ["ready: chat"])


BOTH = {"chat": ["chat", "chat-engine"], "code": ["code", "code-engine"]}
WELL = {"chat": ModelStatus(Phase.LOADED, 0), "chat-engine": ModelStatus(Phase.LOADED, 0)}
BROKEN = {
    "code": ModelStatus(Phase.FAILED, 0, "it needs code-engine"),
    "code-engine": ModelStatus(Phase.FAILED, 0, "no room"),
}


@pytest.mark.parametrize(
    ("statuses", "ready_for_triton", "expected"),
    [
        (
            WELL | BROKEN,
            set(WELL),
            (
                True,
                [
                    "ready: chat, chat-engine",
                    "code could not be loaded: it needs code-engine",
                    "code-engine could not be loaded: no room",
                ],
            ),
        ),
        (
            WELL | BROKEN | {"chat": ModelStatus(Phase.HEALING, 0)},
            set(WELL),
            (
                False,
                [
                    "chat lost its process and is being reloaded (for 1 s)",
                    "code could not be loaded: it needs code-engine",
                    "code-engine could not be loaded: no room",
                ],
            ),
        ),
        (WELL | BROKEN, {*WELL, *BROKEN}, (True, ["ready: chat, chat-engine, code, code-engine"])),
        (
            WELL | {"code": ModelStatus(Phase.LOADED, 0), "code-engine": ModelStatus(Phase.LOADED, 0)},
            {*WELL, "code-engine"},
            (True, ["ready: chat, chat-engine", "code is loaded, but Triton does not report it as ready"]),
        ),
        (
            WELL | {"code": ModelStatus(Phase.WAITING, 0), "code-engine": ModelStatus(Phase.LOADED, 0)},
            {*WELL},
            (
                False,
                [
                    "code is waiting to be loaded (for 1 s)",
                    "code-engine is loaded, but Triton does not report it as ready",
                ],
            ),
        ),
    ],
    ids=[
        "one failed",
        "one failed and the other is being healed",
        "somebody else loaded what had failed",
        "somebody unloaded one",
        "somebody unloaded one that was not yet whole",
    ],
)
def test_an_endpoint_that_is_not_there_is_named_and_keeps_no_requests_from_the_others(
    statuses: dict[str, ModelStatus], ready_for_triton: set[str], expected: health.ProbeResult
) -> None:
    assert health.readiness(BOTH, statuses, ready_for_triton.__contains__, now=1.0) == expected


@pytest.mark.parametrize("served", [WELL, [*WELL, "code-engine"]], ids=["failed", "unloaded"])
def test_a_pod_that_others_would_go_for_is_not_ready_without_what_they_serve(served: list[str]) -> None:
    loaded = {model: ModelStatus(Phase.LOADED, 0) for model in BOTH["code"]}
    statuses = WELL | (BROKEN if "code-engine" not in served else loaded)
    ready, sentences = health.readiness(BOTH, statuses, served.__contains__, 1.0, gating={"code", "gone"})
    assert not ready
    assert sentences[-1] == "code is served by other pods, which keep running until this pod serves it too"
    assert health.readiness(BOTH, statuses, served.__contains__, 1.0, gating={"chat"})[0]


def test_a_pod_without_endpoints_is_ready() -> None:
    ready, (sentence,) = health.readiness({}, {}, lambda _: False, now=1.0)
    assert ready
    assert sentence.startswith("no endpoints yet")


def test_it_is_not_ready_when_only_what_failed_is_still_wanted() -> None:
    ready, sentences = health.readiness({"code": BOTH["code"]}, WELL | BROKEN, WELL.__contains__, now=1.0)
    assert not ready
    assert "code-engine could not be loaded: no room" in sentences


ALIVE = {model: frozenset({number}) for number, model in enumerate(MODELS, start=1)}
INDEX = dict.fromkeys(MODELS, "READY")
LOADED = {model: ModelStatus(Phase.LOADED, 0) for model in MODELS}


def without(model: str) -> dict[str, frozenset[int]]:
    return {name: pids for name, pids in ALIVE.items() if name != model}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (True, ["alive: chat, chat-engine, chat-guardrail"])),
        ({"alive": without("chat-engine")}, (False, ["chat-engine has no running process"])),
        (
            {"unanswered": {"chat-guardrail": "timed out"}},
            (False, ["chat-guardrail does not answer: timed out"]),
        ),
        (
            {"alive": without("chat"), "statuses": LOADED | {"chat": ModelStatus(Phase.HEALING, 0)}},
            (True, ["alive: chat, chat-engine, chat-guardrail"]),
        ),
        (
            {
                "index": INDEX | {"chat-guardrail": "UNAVAILABLE"},
                "alive": without("chat-guardrail"),
                "unanswered": {"chat-guardrail": "no"},
            },
            (True, ["alive: chat, chat-engine"]),
        ),
        ({"index": {}, "alive": {}}, (True, ["alive: tritonserver answers"])),
    ],
    ids=[
        "all well",
        "a dead engine",
        "a hanging guardrail",
        "being healed",
        "unloaded on purpose",
        "at the start",
    ],
)
def test_it_lives_while_what_is_loaded_answers(change: dict, expected: health.ProbeResult) -> None:
    given = {"index": INDEX, "alive": ALIVE, "statuses": LOADED, "unanswered": {}} | change
    assert health.liveness(**given) == expected


def test_what_is_being_loaded_is_named_with_its_progress() -> None:
    statuses = {"chat": ModelStatus(Phase.LOADING, 100.0)}
    result = health.readiness(
        {"chat": ["chat"]}, statuses, lambda _: False, now=350.0, progress=lambda _: "; last error: no room"
    )
    assert result == (False, ["chat is being loaded (for 250 s); last error: no room"])


NO_ANSWER = {"chat": "no answer within 3 s"}


def test_a_model_is_stuck_when_it_has_not_answered_for_long_enough() -> None:
    detector = health.StuckDetector(seconds=30)
    assert [detector.stuck(NO_ANSWER, now) for now in (100, 110, 120)] == [{}, {}, {}]
    assert detector.stuck(NO_ANSWER, 130) == {"chat": "no answer within 3 s (for 30 s)"}


def test_one_answer_starts_the_count_again() -> None:
    detector = health.StuckDetector(seconds=30)
    answers = [NO_ANSWER, NO_ANSWER, {}, NO_ANSWER, NO_ANSWER, NO_ANSWER]
    assert [detector.stuck(answer, now) for now, answer in zip(range(0, 60, 10), answers, strict=True)] == [
        {}
    ] * 6


def test_failures_that_are_far_apart_are_not_consecutive() -> None:
    detector = health.StuckDetector(seconds=30)
    assert [detector.stuck(NO_ANSWER, now) for now in (0, 1000, 2000)] == [{}, {}, {}]


def test_each_model_is_counted_by_itself() -> None:
    detector = health.StuckDetector(seconds=30)
    for now in (0, 15):
        detector.stuck(NO_ANSWER, now)
    found = detector.stuck(NO_ANSWER | {"code": "no answer within 3 s"}, 30)
    assert found.keys() == {"chat"}


def test_probes_that_come_together_cost_one_question() -> None:
    asked: list[float] = []

    def question() -> health.ProbeResult:
        asked.append(time.monotonic())
        return True, ["well"]

    cached = health_port.Cached(question, seconds=60)
    threads = [threading.Thread(target=cached) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(asked) == 1


def test_an_answer_is_asked_for_again_when_it_is_old() -> None:
    answers = iter([(True, ["well"]), (False, ["not well"])])
    cached = health_port.Cached(lambda: next(answers), seconds=0)
    assert [cached()[0], cached()[0]] == [True, False]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_port_answers_in_sentences() -> None:
    def broken() -> health.ProbeResult:
        raise OSError("no answer from Triton")

    port = health_port.Port(
        "127.0.0.1",
        0,
        {"/readyz": lambda: (False, ["chat waits", "code waits"]), "/livez": broken},
        lambda error: pytest.fail(str(error)),
    )
    try:
        assert get(port.number, "/readyz?verbose") == (503, "chat waits\ncode waits\n")
        assert get(port.number, "/livez") == (503, "the probe failed: no answer from Triton\n")
        assert get(port.number, "/") == (404, "not found; try /readyz or /livez\n")
    finally:
        port.close()


def test_only_one_thread_heals_a_model() -> None:
    states = ModelStates(MODELS)
    states.set("chat", Phase.LOADED)
    assert [states.try_mark_healing("chat"), states.try_mark_healing("chat")] == [True, False]
    assert states.statuses()["chat"].phase is Phase.HEALING


def test_an_endpoint_that_cannot_be_read_gates_readiness_only_if_other_pods_serve_it() -> None:
    statuses = {"chat": ModelStatus(Phase.LOADED, 0.0)}
    unreadable = {"code": "spec.shiny: unknown field `shiny`"}

    def answer(*gating: str) -> health.ProbeResult:
        return health.readiness(
            {"chat": ("chat",)}, statuses, {"chat"}.__contains__, 1.0, gating, unreadable=unreadable
        )

    ready, sentences = answer()
    assert ready
    assert sentences == ["ready: chat", "code can't be read: spec.shiny: unknown field `shiny`"]
    ready, sentences = answer("code")
    assert not ready
    assert any("code can't be read" in sentence for sentence in sentences)
