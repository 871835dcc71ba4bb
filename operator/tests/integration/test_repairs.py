"""Whatever happens to a pod, the others go on, the condition says what is wrong, and it heals by itself."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import httpx
import pytest

import kubelet
import model_control
import pool
from api_server import ApiServer
from pool import Operator, Pool, endpoint, until
from tritonllm.serve import health_port
from tritonllm_operator import progress

CHAT = endpoint()


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Nobody tells of a change inside a Triton: it looks often."""
    with pool.operating(api_server, tmp_path_factory.mktemp("operator"), resync=0.5) as operator:
        yield operator


@pytest.fixture
def served(llm: Pool, operator: Operator) -> Pool:
    """A pool that serves an endpoint."""
    llm.as_left(CHAT)
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    return llm


def test_what_somebody_else_loaded_is_loaded_over(served: Pool, operator: Operator) -> None:
    first, second = served.tritons.values()
    other = pool.valid(endpoint(phrases=["of somebody else"]))
    first.models["chat"].config = model_control.configuration(other, "chat")
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    assert first.done == [("load", "chat")]
    assert second.done == []


def test_a_model_that_somebody_unloaded_or_that_died_is_loaded_again(
    served: Pool, operator: Operator
) -> None:
    first, second = served.tritons.values()
    first.models["chat"] = model_control.Held("UNAVAILABLE", first.models["chat"].config, "unloaded")
    second.models["chat-guardrail"] = model_control.Held(
        "UNAVAILABLE", second.models["chat-guardrail"].config, "Internal: the stub process is gone"
    )
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    assert first.done == [("load", "chat")]
    assert second.done == [("load", "chat-guardrail")]


def test_a_pod_that_could_not_read_an_endpoint_says_so_without_an_init_container(
    served: Pool, operator: Operator
) -> None:
    name, triton = next(iter(served.tritons.items()))
    answer = json.dumps({"chat": "spec.limits.shiny: unknown field `shiny`"})
    questions = {"/unreadable": lambda: (True, [answer])}
    port = health_port.Port(triton.address, progress.PORT, questions, lambda error: pytest.fail(repr(error)))
    triton.models.clear()
    try:
        # Another operator has not asked it before.
        operator.stop()
        operator.start()
        until(
            lambda: served.condition("Loaded")[1] == "PoolTooOld",
            lambda: (served.status(), operator.story()),
        )
    finally:
        port.close()
    assert f"pod {name} can't read it: spec.limits.shiny" in served.condition("Loaded")[2]
    assert served.condition("Ready")[0] == "True"


def test_a_pod_with_another_secret_says_so_and_is_healed_by_the_right_one(
    served: Pool, operator: Operator
) -> None:
    for triton in served.tritons.values():
        triton.secret = "another"
    until(
        lambda: served.condition("Loaded")[1] == "ModelControlDenied",
        lambda: (served.status(), operator.story()),
    )
    assert "kubectl rollout restart" in served.condition("Loaded")[2]
    assert served.condition("Ready")[0] != "True" or served.condition("Ready")[1] == "Serving"
    served.ban("chat", "edited meanwhile")
    served.patch("secrets", "llm-api", {"data": {"key": base64.b64encode(b"another").decode()}})
    until(served.as_wanted, lambda: (served.status(), operator.story()))


def test_a_pod_that_never_answers_delays_only_itself(served: Pool, operator: Operator) -> None:
    first, second = served.tritons.values()
    first.hangs = True
    until(lambda: served.condition("Loaded")[1] == "Unreachable", lambda: (served.status(), operator.story()))
    seconds: list[float] = []
    for word in ("one", "two", "three"):
        began = time.monotonic()
        served.ban("chat", word)
        wanted = pool.valid(endpoint(phrases=[word]))
        until(lambda wanted=wanted: second.holds(wanted), operator.story)
        seconds.append(time.monotonic() - began)
    # The least: what else the machine does delays one or the other.
    assert min(seconds) < 3
    until(lambda: served.status()["pods"]["summary"] == "1/2", lambda: (served.status(), operator.story()))
    assert served.condition("Ready")[0] == "True"
    first.hangs = False
    until(served.as_wanted, lambda: (served.status(), operator.story()))


def test_a_pod_that_hangs_in_a_load_delays_only_itself(served: Pool, operator: Operator) -> None:
    first, second = served.tritons.values()
    first.hangs_in_loads = True
    served.ban("chat", "one")
    until(lambda: second.holds(pool.valid(endpoint(phrases=["one"]))), operator.story)
    served.ban("chat", "two")
    until(lambda: second.holds(pool.valid(endpoint(phrases=["two"]))), operator.story)
    assert not first.done
    first.hangs_in_loads = False
    until(served.as_wanted, lambda: (served.status(), operator.story()))


def test_a_load_that_fails_is_told_with_its_reason_and_tried_again(served: Pool, operator: Operator) -> None:
    first, second = served.tritons.values()
    first.fails["chat"] = "ValueError: no such thing"
    served.ban("chat", "other")
    until(lambda: served.condition("Loaded")[1] == "LoadFailed", lambda: (served.status(), operator.story()))
    name = next(name for name, triton in served.tritons.items() if triton is first)
    assert served.condition("Loaded")[2] == f"chat on pod {name}: ValueError: no such thing"
    assert served.condition("Ready")[0] == "True"
    until(lambda: ("Warning", "LoadFailed") in pool.counted(served.events()))
    until(lambda: first.done.count(("load", "chat")) > 1, operator.story)
    assert second.holds(pool.valid(endpoint(phrases=["other"])))
    assert second.done.count(("load", "chat")) == 1
    first.fails.clear()
    until(served.as_wanted, lambda: (served.status(), operator.story()))


TROUBLES = {
    "Unschedulable": {
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            }
        ]
    },
    "ImagePull": kubelet.waiting("ImagePullBackOff", "Back-off pulling image"),
    "ContainerFailed": kubelet.ended(1, "tritonllm: spec.engine: it does not work"),
    "GatedRepo": kubelet.ended(
        21, '{"endpoints": {"chat": {"reason": "GatedRepo", "message": "ask for access"}}}', "weights"
    ),
}


@pytest.mark.parametrize("reason", TROUBLES)
def test_what_keeps_a_pod_from_starting_is_in_the_condition_within_ten_seconds(
    llm: Pool, operator: Operator, reason: str
) -> None:
    llm.install()
    llm.create("llmendpoints", CHAT)
    # It is in the file, whether or not the pods come up.
    until(lambda: llm.file() and len(llm.kubelet.pods()) == llm.pods, operator.story)
    llm.kubelet.broken[""] = TROUBLES[reason]
    llm.kubelet.step()
    until(lambda: llm.condition("Loaded")[1] == reason, lambda: (llm.status(), operator.story()), seconds=10)
    assert llm.condition("Ready")[:2] == ("False", reason)
    assert llm.condition("Loaded")[2].count("llm-") or reason == "GatedRepo"
    assert until(lambda: pool.counted(llm.events())["Warning", reason]) == 1
    llm.kubelet.broken.clear()
    llm.settle()
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
