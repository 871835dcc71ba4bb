"""Who can call an engine model, and when it ends its process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_backend_utils import Sender, Tensor
from tritonllm.ipc import listener, run_token
from tritonllm.runtime import backend, engine, threads


class TritonRequest:
    def __init__(self, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
        self._inputs, self._parameters = inputs, parameters
        self.sender = Sender()

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, np.array([value])) for name, value in self._inputs.items()]

    def parameters(self) -> str:
        return json.dumps(self._parameters)

    def get_response_sender(self) -> Sender:
        return self.sender


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    started: list[engine.TritonPythonModel] = []
    monkeypatch.setenv(listener.DIRECTORY, str(tmp_path))
    monkeypatch.delenv(run_token.VARIABLE, raising=False)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.json").write_text('{"reply": "echo"}')
    config = {"parameters": {"endpoint": {"string_value": "chat"}, "engine": {"string_value": "simulated"}}}

    def start() -> engine.TritonPythonModel:
        made = engine.TritonPythonModel()
        made.initialize(
            {
                "model_name": "chat-engine",
                "model_config": json.dumps(config),
                "model_repository": str(tmp_path),
                "model_version": "1",
            }
        )
        started.append(made)
        return made

    yield start
    for made in started:
        made.finalize()
    assert not list(tmp_path.glob("*.sock"))


def call(model: engine.TritonPythonModel, inputs: dict[str, Any], **parameters: Any) -> Sender:
    request = TritonRequest(inputs, parameters)
    model.execute([request])
    return request.sender


PROMPT = {"text_input": np.bytes_(b"hello")}


def test_without_a_token_an_engine_answers_no_one(model: Any) -> None:
    running = model()
    for parameters in ({}, {"tritonllm_token": ""}, {"tritonllm_token": "", "tritonllm_lease": "a.1"}):
        sender = call(running, PROMPT, **parameters)
        assert sender.closed
        assert sender.error.startswith("[permission_denied] chat-engine has no token")


@pytest.mark.parametrize("token", ["", "wrong", "sécret"])
def test_a_wrong_token_gets_neither_a_lease_nor_an_answer(
    model: Any, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    sender = call(model(), PROMPT, tritonllm_token=token, tritonllm_lease="a.1")
    assert sender.error.startswith("[permission_denied] chat-engine answers its endpoint only; call chat")
    assert sender.text == ""


def test_the_right_token_gets_a_lease(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    running = model()
    sender = call(running, {}, tritonllm_token="secret", tritonllm_lease="a.1")
    assert sender.text == str(running.server.path)
    assert not sender.closed


def test_clients_are_served_where_that_is_allowed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    monkeypatch.setenv(run_token.ALLOW_DIRECT, "1")
    running = model()
    sender = call(running, PROMPT)
    assert sender.done.wait(30)
    # As Triton's vLLM backend: the prompt, then the answer, and no output of guardrails.
    assert sender.text == "hellohello"
    assert "guardrail" not in sender.sent[-1].values()
    bad = call(running, {})
    assert bad.error.startswith("[invalid_argument] text_input")


def test_an_engine_with_work_and_no_progress_is_stalled() -> None:
    now = 100.0
    stall = engine.Stall(now)
    busy = backend.Stats(running=1, steps=7)
    assert stall.seconds(busy, now) == 0
    assert stall.seconds(busy, now + 50) == 50
    assert stall.seconds(backend.Stats(running=1, steps=8), now + 60) == 0
    assert stall.seconds(backend.Stats(steps=8), now + 200) == 0
    assert stall.seconds(backend.Stats(waiting=1, steps=8), now + 250) == 50


def test_a_stalled_engine_ends_its_process(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(threads, "fail", reasons.append)
    monkeypatch.setattr(engine, "STALL_SECONDS", 0.0)
    running = model()
    monkeypatch.setattr(running.backend, "stats", lambda: backend.Stats(running=3, steps=1))
    deadline = time.monotonic() + 30
    while not reasons and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "3 requests are running, but no step has ended for" in reasons[0]


def test_a_dead_engine_ends_its_process(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(threads, "fail", reasons.append)
    running = model()

    async def dead() -> None:
        raise RuntimeError("EngineCore")

    monkeypatch.setattr(running.backend, "check", dead)
    deadline = time.monotonic() + 30
    while not reasons and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reasons[0] == "the engine is dead"
