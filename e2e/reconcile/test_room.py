"""A roll for which the cluster has no room: it waits, says so, and goes on."""

from __future__ import annotations

import json

import pytest

from harness import commands, operator, traffic
from harness.helm import Release
from harness.kubernetes import Kubernetes, condition, name

_DEADLINE_SECONDS = 90
_OTHER_ENGINE = {"inter_token_seconds": 0.008}


@pytest.mark.usefixtures("operating")
def test_a_roll_with_a_pod_that_no_node_takes_waits_and_goes_on_without_a_failed_request(
    release: Release, kubernetes: Kubernetes
) -> None:
    kubernetes.apply(operator.endpoint("chat", release.name, traffic.SPEC))
    rollout = {"maxSurge": 1, "maxUnavailable": 0, "progressDeadlineSeconds": _DEADLINE_SECONDS}
    release.apply({"replicas": 3, "rollout": rollout})
    operator.until(kubernetes, "chat", "Loaded")
    former = set(kubernetes.ready(release.selector))
    assert len(former) == 3

    def placed() -> bool:
        new = [pod for pod in kubernetes.pods(release.selector) if name(pod) not in former]
        return any(condition(pod, "PodScheduled") == "True" for pod in new)

    def set_deadline(seconds: int) -> None:
        patch = {"spec": {"progressDeadlineSeconds": seconds}}
        kubernetes.kubectl("patch", "deployment", release.name, f"--patch={json.dumps(patch)}")

    def deadline_exceeded() -> bool:
        found = kubernetes.get("deployment", release.name)["status"]["conditions"]
        return any(each["reason"] == "ProgressDeadlineExceeded" for each in found)

    def waits() -> None:
        told = operator.until(kubernetes, "chat", "Loaded", "False", reason="Unschedulable")
        assert "no node takes pod llm-" in told["message"]
        serving = set(kubernetes.ready(release.selector))
        assert len(serving & former) == 2, "a pod of before went, and none came in its place"
        assert len(serving - former) == 1, "the new pod that is ready was taken back"

    with traffic.steady(kubernetes, release.image, "chat", service=release.name) as load:
        with load.window() as window:
            kubernetes.apply(operator.endpoint("chat", release.name, traffic.with_engine(**_OTHER_ENGINE)))
            commands.until(placed, 60, "the first new pod has a node")
            with kubernetes.cordoned():
                waits()
                # Nobody waits for all of it; for the pods that come later it is as before.
                set_deadline(1)
                commands.until(deadline_exceeded, 60, "Kubernetes has given up the roll")
                set_deadline(_DEADLINE_SECONDS)
                # Of this version of the endpoint, the operator tells what it has seen since.
                edited = traffic.with_engine(traffic.with_phrases("zulu"), **_OTHER_ENGINE)
                kubernetes.apply(operator.endpoint("chat", release.name, edited))
                waits()
            operator.until(kubernetes, "chat", "Loaded", seconds=180)
            commands.until(
                lambda: not former & {name(pod) for pod in kubernetes.pods(release.selector)},
                90,
                "the pods of before are gone",
            )
        assert len(kubernetes.ready(release.selector)) == 3
    window.check()
