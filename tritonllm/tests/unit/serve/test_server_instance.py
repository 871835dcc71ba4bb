"""What happens to a model, and to tritonserver, when loading or reloading goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_reports import Reports
from tritonllm import api
from tritonllm.serve import api_lock, control_api, log_tail, options, server_instance
from tritonllm.serve.model_states import Phase

MODELS = ("chat-engine", "chat-guardrail", "chat")


class Server:
    """A process that runs until the test says how it ended."""

    pid = 1

    def __init__(self) -> None:
        self.log = log_tail.LogTail()
        self.ended: str | None = None

    def exit_status(self) -> str | None:
        return self.ended


class Control:
    """An API that works, unless the test replaces a call."""

    def config(self, model: str, seconds: float) -> str:
        return "{}"

    def unload(self, model: str, seconds: float) -> None:
        pass

    def index(self, seconds: float = 5) -> dict[str, str]:
        return dict.fromkeys(MODELS, "READY")

    def load(self, model: str, config: str | None = None, seconds: float | None = None) -> None:
        pass


def raises(error: Exception) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def instance(
    server: Server, control: Control, monkeypatch: pytest.MonkeyPatch
) -> server_instance.ServerInstance:
    monkeypatch.setattr(server_instance, "_DYING_SECONDS", 0.1)
    spec = {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}}
    endpoint = api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": "chat"}, "spec": spec}
    )
    chosen = options.Options(files=(), weights="/w", reporter=Reports(), load_timeout=60)
    made = server_instance.ServerInstance(chosen, [endpoint], {}, server, Path("/r"), api_lock.OPEN)  # pyright: ignore[reportArgumentType]
    made.control = control  # pyright: ignore[reportAttributeAccessIssue]
    return made


def finish(name: str) -> None:
    """Waits for a background thread."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)
            assert not thread.is_alive()


def heal(instance: server_instance.ServerInstance) -> None:
    for model in MODELS:
        instance.models.set(model, Phase.LOADED)
    instance.heal("chat", lambda: True)
    finish("heal")


def test_a_model_that_is_reloaded_is_loaded_again(instance: server_instance.ServerInstance) -> None:
    heal(instance)
    assert instance.models.statuses()["chat"].phase is Phase.LOADED
    assert instance.restart_reason is None


def test_triton_is_asked_how_many_processes_a_model_has_only_when_they_have_changed(
    instance: server_instance.ServerInstance, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def config(model: str, seconds: float = 5) -> str:
        asked.append(model)
        return '{"instance_group": [{"count": 3}]}'

    monkeypatch.setattr(control, "config", config)
    whole, less = frozenset({1, 2, 3}), frozenset({1, 2})
    counts = [instance.instances("chat", pids) for pids in (whole, whole, whole, less, less)]
    assert counts == [3] * 5
    assert len(asked) == 3


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"instance_group": [{}]}'])
def test_what_is_no_configuration_is_refused(config: str) -> None:
    with pytest.raises(control_api.Refused):
        control_api.instances(config)


@pytest.mark.parametrize("call", ["config", "unload", "index", "load"])
@pytest.mark.parametrize(
    "error",
    [
        control_api.TimedOut("no answer within 30 s"),
        control_api.Gone("connection reset"),
        control_api.Refused("no"),
        RuntimeError("a bug"),
    ],
    ids=["slow", "gone", "refused", "unexpected"],
)
def test_whatever_goes_wrong_while_reloading_restarts_a_tritonserver_that_still_runs(
    instance: server_instance.ServerInstance, control: Control, call: str, error: Exception
) -> None:
    setattr(control, call, raises(error))
    heal(instance)
    assert instance.restart_reason is not None


def test_a_tritonserver_that_ended_while_reloading_is_left_to_the_watch(
    instance: server_instance.ServerInstance, control: Control, server: Server
) -> None:
    control.unload = raises(control_api.Gone("connection refused"))
    server.ended = "killed by SIGKILL"
    heal(instance)
    assert instance.restart_reason is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (control_api.Gone("connection reset"), "tritonserver does not answer: connection reset"),
        (RuntimeError("a bug"), "loading models failed unexpectedly: RuntimeError('a bug')"),
    ],
    ids=["gone", "unexpected"],
)
def test_whatever_goes_wrong_while_loading_restarts_a_tritonserver_that_still_runs(
    instance: server_instance.ServerInstance, control: Control, error: Exception, reason: str
) -> None:
    control.load = raises(error)
    instance.load()
    finish("load")
    assert instance.restart_reason == reason


def test_a_load_that_exceeds_its_deadline_is_given_up(
    instance: server_instance.ServerInstance, control: Control
) -> None:
    control.load = raises(control_api.TimedOut("Deadline Exceeded"))
    instance.load()
    finish("load")
    assert instance.hung is not None
    assert (instance.hung.endpoint, instance.hung.model) == ("chat", "chat-engine")
    assert instance.reasons() == ["chat-engine: it did not load within 60 s (--load-timeout)"]
    assert not instance.servable({"chat": "hangs"})
    assert instance.servable({"code": "hangs"})


def test_an_engine_that_waits_for_a_dead_worker_is_given_up(
    instance: server_instance.ServerInstance, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.models.set("chat-engine", Phase.LOADING)
    workers = {1, 2}
    monkeypatch.setattr(server_instance.processes, "workers", lambda stubs: frozenset(workers))
    instance.watch_loading({"chat-engine": frozenset({9})}, now=0)
    workers.remove(2)
    server.log.append("ERROR worker 1 died")
    for now in (1, 60):
        instance.watch_loading({"chat-engine": frozenset({9})}, now)
        assert instance.hung is None
    instance.watch_loading({"chat-engine": frozenset({9})}, now=61)
    assert instance.hung is not None
    reason = "a worker process died while it was being loaded; last error: ERROR worker 1 died"
    assert instance.reasons() == [f"chat-engine: {reason}"]


def test_an_endpoint_that_is_not_to_be_served_is_not_loaded(
    server: Server, control: Control, instance: server_instance.ServerInstance
) -> None:
    loaded: list[str] = []
    control.load = lambda model, **_: loaded.append(model)  # pyright: ignore[reportAttributeAccessIssue]
    instance._unservable = {"chat": "no weights"}
    instance.load()
    finish("load")
    assert loaded == []
    assert instance.load_failed
