"""Which models are asked, and when their silence counts."""

from __future__ import annotations

import threading

import pytest

from tritonllm import api
from tritonllm.serve import control_api, health, model_probes

MODELS = ["chat-engine", "chat-guardrail", "chat"]


def endpoint(name: str) -> api.LLMEndpoint:
    spec = {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}}
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": spec}
    )


class Triton:
    """Answers for all models but the silent ones."""

    def __init__(self, *silent: str) -> None:
        self.silent = silent
        self.asked: set[str] = set()

    def ask_guardrail(self, model: str, seconds: float) -> None:
        self.asked.add(model)
        if model in self.silent:
            raise control_api.TimedOut(f"no answer within {seconds:g} s")

    ask_pipeline = ask_guardrail


def probes(triton: object, *names: str) -> model_probes.ModelProbes:
    return model_probes.ModelProbes(triton, [endpoint(name) for name in names])  # pyright: ignore[reportArgumentType]


def test_guardrails_and_pipelines_are_asked_and_engines_are_not() -> None:
    triton = Triton()
    assert probes(triton, "chat").unanswered([*MODELS, "of another client"], now=0) == {}
    assert triton.asked == {"chat-guardrail", "chat"}


def test_models_that_are_not_given_are_not_asked() -> None:
    triton = Triton("chat")
    assert probes(triton, "chat").unanswered(["chat-engine"], now=0) == {}
    assert triton.asked == set()


@pytest.mark.parametrize("model", ["chat", "chat-guardrail"])
def test_a_silent_model_counts_when_it_has_been_silent_for_a_while(model: str) -> None:
    asker = probes(Triton(model), "chat")
    found = [asker.unanswered(MODELS, now) for now in range(0, int(health.STUCK_SECONDS) + 10, 10)]
    assert found[:-1] == [{}] * (len(found) - 1)
    assert found[-1] == {model: "no answer within 3 s (for 30 s)"}


def test_all_models_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(4)

    class Waiting(Triton):
        def ask_guardrail(self, model: str, seconds: float) -> None:
            together.wait(30)

        ask_pipeline = ask_guardrail

    asker = probes(Waiting(), "chat", "code")
    models = ["chat", "chat-guardrail", "code", "code-guardrail"]
    assert asker.unanswered(models, now=0) == {}
    with pytest.raises(threading.BrokenBarrierError):
        together.wait(0)
