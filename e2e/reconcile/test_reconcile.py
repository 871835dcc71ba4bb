"""The operator on a real cluster: edits in place and rolls under load, mistakes, and an operator that is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from harness import commands, operator, pods, traffic
from harness.helm import Release
from harness.kubernetes import Kubernetes


@pytest.fixture
def pool(operating: operator.Operator, release: Release, kubernetes: Kubernetes) -> Iterator[Release]:
    """Two pods that serve `chat`, and a neighbour to ask them from."""
    kubernetes.apply(operator.endpoint("chat", release.name, traffic.SPEC))
    release.apply()
    operator.until(kubernetes, "chat", "Loaded")
    with pods.running(kubernetes, "neighbour", release.image, ["sleep", "infinity"]):
        yield release


def with_list() -> dict[str, Any]:
    """The endpoint with a rule whose phrases are in a ConfigMap as well."""
    spec = traffic.with_phrases()
    spec["guardrails"]["output"][0]["banned"]["configMapRef"] = {"name": "words", "key": "phrases.txt"}
    return spec


def phrase_list(*phrases: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "phrases", "tritonllm.io/pool": ""}
    metadata = {"name": "words", "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"phrases.txt": "\n".join(phrases)},
    }


def ask(kubernetes: Kubernetes, address: str, prompt: str) -> str:
    command = ["tritonllm", "generate", "chat", prompt, "--url", f"http://{address}:8000"]
    return kubernetes.execute("neighbour", command).strip()


def answers(kubernetes: Kubernetes, release: Release, prompt: str) -> set[str]:
    """What each pod answers."""
    found = kubernetes.pods(release.selector)
    return {ask(kubernetes, pod["status"]["podIP"], prompt) for pod in found}


def uids(kubernetes: Kubernetes, release: Release) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kubernetes.pods(release.selector)}


def revisions_of(kubernetes: Kubernetes, release: Release) -> int:
    return len(kubernetes.list("replicasets", f"app.kubernetes.io/instance={release.name}"))


def test_an_applied_endpoint_is_served_and_edited_in_place_without_a_failed_request(
    pool: Release, kubernetes: Kubernetes
) -> None:
    assert revisions_of(kubernetes, pool) == 1, "the first install rolled the pods"
    assert answers(kubernetes, pool, "so tango zulu") == {"so [REDACTED] zulu"}
    first = uids(kubernetes, pool)
    with traffic.steady(kubernetes, pool.image, "chat", service=pool.name) as load, load.window() as window:
        kubernetes.apply(operator.endpoint("chat", pool.name, traffic.with_phrases("zulu")))
        operator.until(kubernetes, "chat", "Loaded")
        assert answers(kubernetes, pool, "so tango zulu") == {"so [REDACTED] [REDACTED]"}

        kubernetes.apply(phrase_list("yankee"), operator.endpoint("chat", pool.name, with_list()))
        operator.until(kubernetes, "chat", "Loaded")
        assert answers(kubernetes, pool, "tango yankee zulu") == {"[REDACTED] [REDACTED] zulu"}
        kubernetes.apply(phrase_list("zulu"))
        commands.until(
            lambda: answers(kubernetes, pool, "tango yankee zulu") == {"[REDACTED] yankee [REDACTED]"},
            60,
            "all pods serve the list as it is now",
        )
    window.check()
    assert uids(kubernetes, pool) == first, "a policy was changed with new pods"

    # Helm knows nothing of what the operator wrote, and changes none of it.
    pool.apply()
    assert uids(kubernetes, pool) == first, "an upgrade that changes nothing replaced pods"
    assert operator.conditions(kubernetes, "chat")["Loaded"]["status"] == "True"


def test_an_engine_is_changed_with_new_pods_and_a_mistake_not_at_all(
    pool: Release, kubernetes: Kubernetes
) -> None:
    first = uids(kubernetes, pool)
    # With it, new pods have something to serve, whatever becomes of `chat`.
    kubernetes.apply(operator.endpoint("other", pool.name, traffic.SPEC))
    with traffic.steady(kubernetes, pool.image, "chat", service=pool.name) as load, load.window() as window:
        kubernetes.apply(operator.endpoint("chat", pool.name, traffic.with_engine(inter_token_seconds=0.008)))
        operator.until(kubernetes, "chat", "Loaded", seconds=240)
        commands.until(lambda: not first & uids(kubernetes, pool), 90, "the pods of before are gone")
        second = uids(kubernetes, pool)

        kubernetes.apply(operator.endpoint("chat", pool.name, traffic.with_engine(inter_tokn_seconds=0.008)))
        refused = operator.until(kubernetes, "chat", "Accepted", "False", seconds=10)
        assert "did you mean `inter_token_seconds`" in refused["message"]
        assert operator.conditions(kubernetes, "chat")["Ready"]["status"] == "True"

        broken = traffic.with_engine(inter_token_seconds=0.008, fail_to_load="no such weights")
        kubernetes.apply(operator.endpoint("chat", pool.name, broken))
        operator.until(kubernetes, "chat", "Loaded", "False", reason="LoadFailed", seconds=60)
        failed = operator.until(kubernetes, "chat", "Loaded", "False", reason="RolledBack", seconds=240)
        assert "no such weights" in failed["message"]
        commands.until(
            lambda: uids(kubernetes, pool) == second, 90, "the good pods serve, and no others are left"
        )
    window.check()


def test_two_operators_of_which_one_is_killed_twenty_times_among_forty_edits_get_there(
    pool: Release, operating: operator.Operator, kubernetes: Kubernetes
) -> None:
    chance = random.Random(7)
    killed = chance.sample(range(40), 20)
    operating.scale(2)
    try:
        for number in range(40):
            kubernetes.apply(operator.endpoint("chat", pool.name, traffic.with_phrases(f"word{number}")))
            if number in killed:
                operating.kill(chance)
        operator.until(kubernetes, "chat", "Loaded", seconds=180)
    finally:
        operating.scale(1)
    assert answers(kubernetes, pool, "word38 word39") == {"word38 [REDACTED]"}
    assert revisions_of(kubernetes, pool) == 1


def test_a_pod_killed_in_the_middle_of_an_edit_comes_back_with_it(
    pool: Release, kubernetes: Kubernetes
) -> None:
    victim = kubernetes.pods(pool.selector)[0]["metadata"]["name"]
    kubernetes.apply(operator.endpoint("chat", pool.name, traffic.with_phrases("zulu")))
    kubernetes.kubectl("delete", "pod", victim, "--grace-period=0", "--force", "--wait=false")
    kubernetes.rolled_out(pool.name)
    operator.until(kubernetes, "chat", "Loaded", seconds=180)
    assert answers(kubernetes, pool, "tango zulu") == {"[REDACTED] [REDACTED]"}


def test_an_endpoint_deleted_while_the_operator_is_away_is_unloaded_when_it_is_back(
    pool: Release, operating: operator.Operator, kubernetes: Kubernetes
) -> None:
    kubernetes.apply(operator.endpoint("other", pool.name, traffic.SPEC))
    operator.until(kubernetes, "other", "Loaded", seconds=240)
    operating.scale(0)
    try:
        kubernetes.kubectl("delete", "llmendpoint", "other", seconds=10)
    finally:
        operating.scale(1)

    def gone() -> bool:
        found = [pod["status"]["podIP"] for pod in kubernetes.pods(pool.selector)]
        told = [
            pods.fetch(kubernetes, "neighbour", f"http://{address}:8000/v2/models/other") for address in found
        ]
        return all("error" in text for text in told)

    commands.until(gone, 120, "no pod serves `other`")
    assert answers(kubernetes, pool, "so tango") == {"so [REDACTED]"}


# The operator has to run, whether a pool is its own or not.
@pytest.mark.usefixtures("operating")
def test_a_pool_is_handed_to_the_operator_and_taken_back_without_a_failed_request(
    release: Release, kubernetes: Kubernetes
) -> None:
    def owned_by(operator_enabled: bool) -> dict[str, Any]:
        return {
            "operator": {"enabled": operator_enabled, "namespace": "tritonllm-operator"},
            "endpoints": [{"name": "chat", "spec": traffic.SPEC}],
        }

    release.apply(owned_by(False))
    with (
        pods.running(kubernetes, "neighbour", release.image, ["sleep", "infinity"]),
        traffic.steady(kubernetes, release.image, "chat", service=release.name) as load,
        load.window() as window,
    ):
        release.apply(owned_by(True))
        operator.until(kubernetes, "chat", "Loaded")
        kubernetes.apply(operator.endpoint("chat", release.name, traffic.with_phrases("zulu")))
        operator.until(kubernetes, "chat", "Loaded")
        assert answers(kubernetes, release, "so tango zulu") == {"so [REDACTED] [REDACTED]"}

        release.apply(owned_by(False))
        commands.until(
            lambda: answers(kubernetes, release, "so tango zulu") == {"so [REDACTED] zulu"},
            90,
            "all pods serve what the chart says",
        )
        assert not kubernetes.list("llmendpoints")
    window.check()
