"""The calls that keep an engine loaded, on both sides: granted at once, ended once, never waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import fake_backend_utils
from fake_backend_utils import InferenceRequest, InferenceResponse, Responses, Sender, Tensor, TritonError
from tritonllm import errors
from tritonllm.ipc import run_token
from tritonllm.runtime import engine_leases, leases, wire

PATH = InferenceResponse([Tensor("text_output", np.array([b"/run/engine.sock"], dtype=np.object_))])


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[leases.TritonLeases]:
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    made = leases.TritonLeases("chat-engine", "me")
    yield made
    made.close()


def answer(monkeypatch: pytest.MonkeyPatch, *responses: InferenceResponse) -> Responses:
    iterator = Responses(*responses)
    monkeypatch.setattr(InferenceRequest, "call", lambda request: iterator, raising=False)
    return iterator


def test_a_lease_names_the_socket_of_the_engine_that_granted_it(
    pipeline: leases.TritonLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterator = answer(monkeypatch, PATH)
    assert asyncio.run(pipeline.open()) == ("me.1", "/run/engine.sock")
    assert not iterator.waited


def test_the_end_of_a_lease_is_taken_only_when_it_has_arrived(
    pipeline: leases.TritonLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterator = answer(monkeypatch, PATH)
    asyncio.run(pipeline.open())
    iterator.arrived.append(None)
    pipeline.finish("me.1")
    pipeline._thread.submit(int).result(30)
    assert iterator.arrived == []
    assert not iterator.waited


def test_the_iterator_of_a_dead_engine_is_kept_and_not_touched(
    pipeline: leases.TritonLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterator = answer(monkeypatch, PATH)
    asyncio.run(pipeline.open())
    pipeline.abandon("me.1")
    pipeline.finish("me.1")
    pipeline._thread.submit(int).result(30)
    assert not iterator.waited
    assert pipeline._abandoned == [iterator]


def test_an_engine_that_refuses_is_unavailable_with_its_reason(
    pipeline: leases.TritonLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, InferenceResponse(error=TritonError("[permission_denied] wrong token")))
    with pytest.raises(errors.RequestError, match=r"\[unavailable\] .*chat-engine.* wrong token"):
        asyncio.run(pipeline.open())


def test_an_engine_that_is_not_loaded_is_unavailable(
    pipeline: leases.TritonLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(request: InferenceRequest) -> None:
        raise fake_backend_utils.TritonModelException("Model is not ready")

    monkeypatch.setattr(InferenceRequest, "call", refuses, raising=False)
    with pytest.raises(errors.RequestError, match=r"\[unavailable\] .*Model is not ready"):
        asyncio.run(pipeline.open())


class Engine:
    """The engine's side, whose event loop is the test."""

    def __init__(self) -> None:
        self.reported = threading.Event()
        self.leases = engine_leases.EngineLeases(lambda function: function())


def test_a_lease_is_answered_at_once_and_ended_when_it_is_released() -> None:
    engine, sender = Engine(), Sender()
    engine.leases.grant("a.1", sender, "/run/engine.sock")
    assert wire.first_text(sender.sent[0]) == "/run/engine.sock"
    assert not sender.closed
    engine.leases.release("a.1", lambda: engine.reported.set() if sender.closed else None)
    assert engine.reported.wait(30)
    assert len(sender.sent) == 1


def test_the_leases_of_a_pipeline_that_is_gone_end_and_no_others() -> None:
    engine = Engine()
    gone, stays = Sender(), Sender()
    engine.leases.grant("a.1", gone, "x")
    engine.leases.grant("ab.1", stays, "x")
    engine.leases.disconnected("a")
    assert gone.done.wait(30)
    assert not stays.closed


def test_the_leases_of_a_pipeline_that_never_connected_end(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    sender, connected = Sender(), Sender()
    engine.leases.grant("a.1", sender, "x")
    engine.leases.grant("b.1", connected, "x")
    engine.leases.expire(lambda owner: owner == "b")
    assert not sender.closed
    monkeypatch.setattr(engine_leases, "_CONNECT_SECONDS", -1)
    engine.leases.expire(lambda owner: owner == "b")
    assert sender.done.wait(30)
    assert not connected.closed


def test_a_pipeline_that_can_not_be_reached_delays_only_its_own_lease() -> None:
    engine, go = Engine(), threading.Event()

    class Stuck(Sender):
        def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
            if flags:
                go.wait(60)
            super().send(response, flags)

    stuck, other = Stuck(), Sender()
    engine.leases.grant("a.1", stuck, "x")
    engine.leases.grant("b.1", other, "x")
    engine.leases.disconnected("a")
    engine.leases.disconnected("b")
    assert other.done.wait(30)
    assert not stuck.closed
    go.set()
    assert stuck.done.wait(30)
