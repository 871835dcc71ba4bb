"""One sentence for each way in which a pod does not come up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonllm_operator import facts, names, pods

GATED = json.dumps({"endpoints": {"chat": {"reason": "GatedRepo", "message": "ask for access"}}})


def terminated(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def container(
    name: str, state: dict[str, Any], last: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"name": name, "image": "registry/image:1", "state": state, "lastState": last or {}, **more}


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def pod(
    weights: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    **conditions: tuple[str, str, str],
) -> facts.Pod:
    return pods.read(
        {
            "metadata": {"name": "llm-1"},
            "status": {
                "podIP": "10.0.0.1",
                "initContainerStatuses": [weights] if weights else [],
                "containerStatuses": [server] if server else [],
                "conditions": [
                    {"type": kind, "status": status, "reason": reason, "message": message}
                    for kind, (status, reason, message) in conditions.items()
                ],
            },
        }
    )


def trouble(found: facts.Pod) -> tuple[str, str]:
    assert found.trouble is not None
    return found.trouble.reason, found.trouble.message


@pytest.mark.parametrize("annotations", [None, {}, {names.REVISION: "r1"}, {names.STATIC: "abc"}])
def test_a_pod_of_its_chart_is_told_from_those_of_the_operator(annotations: dict[str, str] | None) -> None:
    found = pods.read({"metadata": {"name": "llm-1", "annotations": annotations}})
    assert found.static is (annotations == {names.STATIC: "abc"})
    assert found.revision == (annotations or {}).get(names.REVISION, "")


def test_a_pod_without_a_gpu_to_run_on_says_what_the_scheduler_says() -> None:
    reason, message = trouble(
        pod(PodScheduled=("False", "Unschedulable", "0/3 nodes: 3 Insufficient nvidia.com/gpu."))
    )
    assert reason == "Unschedulable"
    assert message.startswith("no node takes pod llm-1: 0/3 nodes: 3 Insufficient nvidia.com/gpu; ")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_can_not_be_had_is_named(reason: str) -> None:
    found = trouble(pod(server=container("server", waiting(reason, "not found"))))
    assert found[0] == "ImagePull"
    assert "registry/image:1" in found[1]
    assert "not found" in found[1]


def test_a_secret_that_is_not_there_is_the_kubelets_own_word() -> None:
    state = waiting("CreateContainerConfigError", 'secret "llm-api" not found')
    assert trouble(pod(server=container("server", state)))[1].endswith('secret "llm-api" not found')


@pytest.mark.parametrize(
    "states",
    [
        (terminated(21, GATED), {}),
        (waiting("CrashLoopBackOff"), terminated(21, GATED)),
        (RUNNING, terminated(21, GATED)),
    ],
    ids=["ended", "waiting", "running again"],
)
def test_weights_that_can_not_be_had_are_known_however_the_kubelet_stands(
    states: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    found = pod(weights=container("weights", *states))
    assert found.weights == {"chat": {"reason": "GatedRepo", "message": "ask for access"}}
    if "running" not in states[0]:
        assert trouble(found) == ("GatedRepo", "chat: ask for access")


def test_a_success_after_a_failure_counts() -> None:
    done = json.dumps({"endpoints": {"chat": {"commit": "c" * 40}}})
    found = pod(weights=container("weights", terminated(0, done), terminated(21, GATED)))
    assert found.weights == {"chat": {"commit": "c" * 40}}
    assert found.trouble is None


@pytest.mark.parametrize("message", ["", "not JSON", "[]", '{"endpoints": 3}', "null"])
def test_a_download_that_ends_without_a_word_points_to_its_log(message: str) -> None:
    reason, text = trouble(pod(weights=container("weights", terminated(137, message))))
    assert reason == "WeightsFailed"
    assert "kubectl logs llm-1 -c weights" in text


def test_a_failure_of_the_whole_download_holds_for_every_endpoint() -> None:
    told = json.dumps({"endpoints": {}, "reason": "NotWritable", "message": "the volume is somebody else's"})
    found = pod(weights=container("weights", terminated(27, told)))
    assert trouble(found) == ("NotWritable", "the volume is somebody else's")


def test_a_server_that_ended_says_its_last_lines() -> None:
    state = terminated(1, "loading\n\nchat-engine could not be loaded: no memory\n")
    reason, message = trouble(pod(server=container("server", waiting("CrashLoopBackOff"), state)))
    assert reason == "ContainerFailed"
    assert message.endswith("ended with code 1: loading chat-engine could not be loaded: no memory")


def test_a_server_that_took_too_much_memory_is_told_apart() -> None:
    state = terminated(137, reason="OOMKilled")
    assert trouble(pod(server=container("server", waiting("CrashLoopBackOff"), state)))[0] == "OutOfMemory"


def test_a_server_that_runs_again_is_no_trouble_any_more() -> None:
    found = pod(server=container("server", RUNNING, terminated(1, "it crashed"), started=True))
    assert found.trouble is None
    assert (found.running, found.started) == (True, True)


def test_long_messages_are_cut() -> None:
    reason, message = trouble(pod(server=container("server", waiting("ErrImagePull", "x" * 5000))))
    assert (reason, len(message) < 1000) == ("ImagePull", True)


def owned(name: str, uid: str, owner: str = "", *, controller: bool = True) -> dict[str, Any]:
    owners = [{"kind": "X", "name": "x", "uid": owner, "controller": controller}] if owner else []
    return {"metadata": {"name": name, "uid": uid, "ownerReferences": owners}}


@pytest.mark.parametrize(
    ("pod", "replica_set", "own"),
    [
        (owned("p", "1", "rs"), owned("llm-1", "rs", "deployment"), True),
        (owned("p", "1"), owned("llm-1", "rs", "deployment"), False),
        (owned("p", "1", "deployment"), owned("llm-1", "rs", "deployment"), False),
        (owned("p", "1", "rs", controller=False), owned("llm-1", "rs", "deployment"), False),
        (owned("p", "1", "rs"), owned("llm-1", "rs"), False),
        (owned("p", "1", "rs"), owned("llm-1", "rs", "another"), False),
        (owned("p", "1", "rs"), owned("llm-1", "rs", "deployment", controller=False), False),
        (owned("p", "1", "llm-1"), owned("llm-1", "rs", "deployment"), False),
    ],
)
def test_a_pod_is_the_pools_by_the_uids_of_its_controllers(
    pod: dict[str, Any], replica_set: dict[str, Any], own: bool
) -> None:
    assert (pods.made_by("deployment", [replica_set], [pod]) == [pod]) == own
