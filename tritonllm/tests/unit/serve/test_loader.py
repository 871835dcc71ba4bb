"""Loading model by model, and what is said of one that fails or hangs."""

from __future__ import annotations

from typing import Any

import pytest

from fake_reports import Reports
from tritonllm import api
from tritonllm.serve import control_api, loader, log_tail
from tritonllm.serve.model_states import ModelStates, Phase


def endpoint(name: str) -> api.LLMEndpoint:
    spec: dict[str, Any] = {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}}
    if name == "toxicity":
        spec |= {"engine": {"type": "classifier"}, "model": {"path": "toxicity"}}
    if name == "asking":
        classifier = {"model": "toxicity", "labels": ["toxic"]}
        spec["guardrails"] = {"input": [{"name": "toxic", "action": "Block", "classifier": classifier}]}
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": spec}
    )


class Triton:
    """Loads a model by raising what the script says, or by doing nothing."""

    def __init__(self, log: log_tail.LogTail, **errors: Exception) -> None:
        self.log = log
        self.errors = {name.replace("_", "-"): error for name, error in errors.items()}
        self.loaded: list[str] = []

    def load(self, model: str, config: str | None = None, seconds: float | None = None) -> None:
        self.log.append(f"loading {model} in {seconds} s")
        if error := self.errors.get(model):
            raise error
        self.loaded.append(model)


def load(*names: str, **errors: Exception) -> tuple[Triton, ModelStates, tuple[list[str], list[str]]]:
    log = log_tail.LogTail()
    triton = Triton(log, **errors)
    endpoints = [endpoint(name) for name in names]
    states = ModelStates(model for each in endpoints for model in each.models)
    result = loader.load_all(endpoints, triton, states, Reports(), log, 60)  # pyright: ignore[reportArgumentType]
    return triton, states, result


def test_engine_guardrail_and_pipeline_are_loaded_in_this_order_with_a_deadline() -> None:
    triton, states, result = load("chat")
    assert triton.loaded == ["chat-engine", "chat-guardrail", "chat"]
    assert triton.log.last(1) == ["loading chat in 60 s"]
    assert {status.phase for status in states.statuses().values()} == {Phase.LOADED}
    assert result == (["chat"], [])


def test_an_endpoint_that_fails_does_not_stop_the_next() -> None:
    _, states, result = load("bad", "chat", bad_engine=control_api.Refused("no room"))
    assert result == (["chat"], ["bad"])
    statuses = states.statuses()
    assert statuses["bad-engine"].reason == "no room"
    assert statuses["bad"].reason == "it needs bad-engine, which could not be loaded"


def test_a_classifier_is_loaded_before_the_endpoint_whose_rules_ask_it() -> None:
    triton, _, result = load("asking", "toxicity")
    assert triton.loaded == ["toxicity", "asking-engine", "asking-guardrail", "asking"]
    assert result == (["toxicity", "asking"], [])


def test_an_endpoint_whose_classifier_fails_is_not_loaded_and_others_are() -> None:
    triton, states, result = load("asking", "chat", "toxicity", toxicity=control_api.Refused("no weights"))
    assert "asking" not in triton.loaded
    assert result == (["chat"], ["toxicity", "asking"])
    reason = "it needs toxicity, which could not be loaded"
    assert states.statuses()["asking-engine"].reason == reason


def test_only_models_that_depend_on_the_failed_one_fail_with_it() -> None:
    _, states, _ = load("bad", bad_guardrail=control_api.Refused("broken rule"))
    phases = {model: status.phase for model, status in states.statuses().items()}
    assert phases == {"bad-engine": Phase.LOADED, "bad-guardrail": Phase.FAILED, "bad": Phase.FAILED}


def test_a_model_that_does_not_load_in_time_ends_loading_and_fails_with_the_deadline() -> None:
    log = log_tail.LogTail()
    log.append("ValueError: of another model, before")
    triton = Triton(log, slow_engine=control_api.TimedOut("Deadline Exceeded"))
    endpoints = [endpoint("slow"), endpoint("chat")]
    states = ModelStates(model for each in endpoints for model in each.models)
    with pytest.raises(loader.LoadHung) as error:
        loader.load_all(endpoints, triton, states, Reports(), log, 60)  # pyright: ignore[reportArgumentType]
    assert (error.value.endpoint, error.value.model) == ("slow", "slow-engine")
    reason = "it did not load within 60 s (--load-timeout); log: loading slow-engine in 60 s"
    assert str(error.value) == states.statuses()["slow-engine"].reason == reason
    assert states.statuses()["slow"].phase is Phase.FAILED
    assert triton.loaded == []


def test_the_reason_of_a_hang_ends_with_the_last_error_of_a_worker() -> None:
    lines = ["AcceleratorError: CUDA error: out of memory", "INFO waiting for workers"]
    assert loader.overdue(1800, lines) == (
        "it did not load within 1800 s (--load-timeout); last error: AcceleratorError: CUDA error: out of memory"
        "; log: INFO waiting for workers"
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError: no room on the"
            " card\n\nAt:\n  /repo/m/1/model.py(3): initialize\n;\n",
            "ValueError: no room on the card",
        ),
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: RuntimeError: first line\n"
            "second line\n\nAt:\n  /repo/m/1/model.py(3): initialize\n;",
            "RuntimeError: first line second line",
        ),
        ("failed to load 'm', failed to poll from model repository", None),
        ("", "Triton gives no reason; see the log of tritonserver"),
    ],
    ids=["one line", "two lines", "another form", "nothing"],
)
def test_the_reason_of_a_failed_load_is_what_helps(message: str, reason: str | None) -> None:
    assert loader.useful(message) == (message if reason is None else reason)


def test_a_long_reason_is_cut() -> None:
    assert len(loader.useful("x" * 5000)) == 600


def test_a_reason_that_only_refers_to_the_cause_is_replaced_by_the_first_exception() -> None:
    lines = ["INFO starting", "(EngineCore) ValueError: no weights", "RuntimeError: Engine core failed"]
    assert loader.cause("RuntimeError: failed, see root cause above", lines) == "ValueError: no weights"
    assert loader.cause("RuntimeError: see root cause above", []) == "RuntimeError: see root cause above"
    assert loader.cause("no room", lines) == "no room"


def test_a_worker_that_died_is_the_cause_and_not_the_wait_for_it() -> None:
    lines = [
        "(EngineCore) ERROR Worker proc VllmWorker-1 died unexpectedly, shutting down executor.",
        "(EngineCore) ERROR RuntimeError: cancelled",
    ]
    told = loader.cause("RuntimeError: failed, see root cause above", lines)
    assert told.startswith("Worker proc VllmWorker-1 died unexpectedly while the engine started")
    lines.insert(0, "(Worker_TP1) ERROR ValueError: Free memory on device cuda:1 is less than desired")
    told = loader.cause("RuntimeError: failed, see root cause above", lines)
    assert told == "ValueError: Free memory on device cuda:1 is less than desired"
