"""What can't be changed on running pods comes with new ones, and the last good pods stay until those are ready."""

from __future__ import annotations

from typing import Any

import pytest

import kubelet
import model_control
import pool
from pool import Operator, Pool, endpoint, until, until_as_wanted
from tritonllm_operator import names

CHAT = endpoint()
SLOWER = {"type": "simulated", "args": {"inter_token_seconds": 0.5}}


@pytest.fixture
def served(llm: Pool, operator: Operator) -> Pool:
    """A pool that serves an endpoint, in a cluster that does what it is told."""
    llm.as_left(CHAT)
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    llm.run()
    return llm


def good(llm: Pool) -> str | None:
    """The revision to which a roll would go back."""
    found = llm.get("configmaps", "llm-endpoints") or {"metadata": {}}
    return found["metadata"].get("annotations", {}).get(names.GOOD)


def files(llm: Pool) -> set[str]:
    """The revisions that pods can boot from."""
    found = llm.get("configmaps", "llm-endpoints") or {"data": {}}
    return {str(names.revision(key)) for key in found["data"]}


def test_a_changed_engine_comes_with_new_pods_and_both_files_stay_until_they_are_ready(
    served: Pool, operator: Operator
) -> None:
    before = set(served.tritons)
    # At first the new pods need longer.
    hold = {"conditions": [{"type": "Ready", "status": "False"}]}
    served.kubelet.broken = kubelet.Everything("", hold)
    served.edit("chat", engine=SLOWER)
    revision = until(served.revision, operator.story)
    assert files(served) == {"", revision}
    assert good(served) == ""
    assert served.file("")["chat"]["engine"] == CHAT["spec"]["engine"]
    assert served.file(revision)["chat"]["engine"] == SLOWER
    until(lambda: served.condition("Loaded")[1] == "Rolling", lambda: (served.status(), operator.story()))
    assert served.condition("Ready")[:2] == ("True", "ServingFormerVersion")
    assert served.status()["plan"]["action"] == "Roll"
    # A policy edited meanwhile is live on the pods that serve, and in both files.
    served.ban("chat", "meanwhile")
    now = pool.valid(endpoint(phrases=["meanwhile"]))
    until(lambda: all(triton.holds(now) for triton in served.tritons.values()), operator.story)
    until(
        lambda: served.file("")["chat"]["guardrails"] == served.file(revision)["chat"]["guardrails"],
        operator.story,
    )
    served.kubelet.broken = {}
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    until(lambda: good(served) == revision and files(served) == {revision}, operator.story)
    assert not before & set(served.tritons)
    assert served.revision() == revision


def test_a_roll_that_misses_its_deadline_goes_back_to_the_former_pods_and_says_why(
    served: Pool, operator: Operator
) -> None:
    before = set(served.tritons)
    served.kubelet.broken = kubelet.Everything("", kubelet.ended(1, "ValueError: it can't"))
    served.edit("chat", engine=SLOWER)
    revision = until(served.revision, operator.story)
    until(
        lambda: served.condition("Loaded")[1] == "ContainerFailed",
        lambda: (served.status(), operator.story()),
    )
    assert "ValueError: it can't" in served.condition("Loaded")[2]
    served.deadline(1)
    until(lambda: served.revision() is None, operator.story)
    served.deadline(600)
    until(lambda: served.condition("Loaded")[1] == "RolledBack", lambda: (served.status(), operator.story()))
    assert "ValueError: it can't" in served.condition("Loaded")[2]
    assert served.condition("Ready")[:2] == ("True", "ServingFormerVersion")
    # The very pods that served before, not new ones of the same kind.
    until(lambda: len(served.list("pods")) == served.pods)
    assert set(served.tritons) == before
    until(lambda: pool.counted(served.events())["Warning", "RolledBack"] == 1)
    # It is not tried again by itself, neither now nor by an operator that starts anew.
    passes = operator.passes()
    served.patch("deployments", "llm", {"metadata": {"annotations": {"test/nudge": "1"}}})
    until(lambda: operator.passes() > passes, operator.story)
    assert served.revision() is None
    # Another version is.
    served.kubelet.broken = {}
    served.edit("chat", engine={"args": {"inter_token_seconds": 0.25}})
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    assert served.revision() not in (None, revision)


def test_an_engine_edit_that_is_taken_back_during_its_roll_leaves_the_former_pods(
    served: Pool, operator: Operator
) -> None:
    before = set(served.tritons)
    served.kubelet.broken = kubelet.Everything("", kubelet.waiting("ContainerCreating"))
    served.edit("chat", engine=SLOWER)
    until(served.revision, operator.story)
    served.edit("chat", engine={"type": "simulated", "args": None})
    until(lambda: served.revision() is None, operator.story)
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    assert set(served.tritons) == before


def test_an_endpoint_that_comes_and_goes_leaves_the_others_alone(served: Pool, operator: Operator) -> None:
    served.create("llmendpoints", endpoint("code"))
    until(lambda: served.as_wanted("code"), lambda: (served.status("code"), operator.story()))
    assert served.as_wanted("chat")
    assert served.status("code")["plan"]["action"] == "Roll"
    revision = served.revision()
    served.delete("llmendpoints", "code")
    until(
        lambda: all(("unload", "code-engine") in item.done for item in served.tritons.values()),
        operator.story,
    )
    assert served.revision() == revision
    until(lambda: set(served.file(revision or "")) == {"chat"}, operator.story)


def test_a_pool_of_its_chart_serves_on_while_it_is_handed_over_and_its_pods_are_replaced_once(
    llm: Pool, operator: Operator
) -> None:
    llm.as_static(CHAT)
    former = dict(llm.tritons)
    llm.hand_over()
    operator.until_looked()
    until(lambda: len(llm.kubelet.pods()) > llm.pods)
    operator.until_looked()
    # Only now come the endpoints, one after the other.
    code = endpoint("code")
    for item in (CHAT, code):
        llm.create("llmendpoints", item)
    llm.run()
    until(lambda: not set(former) & set(llm.tritons), operator.story)
    until_as_wanted(llm, operator, "chat", "code")
    assert llm.revision() is None
    assert set(llm.file()) == {"chat", "code"}
    assert model_control.changes([*former.values(), *llm.tritons.values()]) == [[], [], [], []]


def test_the_file_of_a_roll_is_restored_for_the_pods_of_both_revisions(
    served: Pool, operator: Operator
) -> None:
    served.kubelet.broken = kubelet.Everything("", kubelet.waiting("ContainerCreating"))
    served.edit("chat", engine=SLOWER)
    revision = until(served.revision, operator.story)
    served.delete("configmaps", "llm-endpoints")
    until(lambda: files(served) == {"", revision}, operator.story)
    served.kubelet.broken = {}
    until(served.as_wanted, lambda: (served.status(), operator.story()))


def test_replicas_changed_in_the_middle_of_a_roll_stay_changed(served: Pool, operator: Operator) -> None:
    served.edit("chat", engine=SLOWER)
    served.pods = 3
    served.patch("deployments", "llm", {"spec": {"replicas": 3}})
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    deployment = served.get("deployments", "llm")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 3
    assert len(served.tritons) == 3


def test_a_helm_upgrade_neither_undoes_the_revision_nor_rolls(served: Pool, operator: Operator) -> None:
    chart = served.deployment()
    served.apply("deployments", chart, "helm")
    served.edit("chat", engine=SLOWER)
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    revision, pods = served.revision(), set(served.tritons)
    assert revision
    chart["metadata"]["annotations"]["example.com/upgraded"] = "true"
    served.apply("deployments", chart, "helm")
    passes = operator.passes()
    until(lambda: operator.passes() > passes, operator.story)
    assert served.revision() == revision
    assert set(served.tritons) == pods
    assert served.as_wanted()


HUB: dict[str, Any] = {"model": {"repo": "org/one"}, "engine": {"type": "vllm"}}
COMMIT = "0123456789" * 4


def job_ends(llm: Pool, revision: str, code: int, message: str) -> None:
    """The container of a Job's pod ends, with its last word."""
    job = f"llm-sync-{revision}"
    # A second try comes only after ten seconds.
    llm.patch("jobs", job, {"spec": {"backoffLimit": 0}})
    (pod,) = until(lambda: llm.list("pods", f"job-name={job}"))
    ended = kubelet.ended(code, message)
    ended["containerStatuses"][0]["name"] = "weights"
    llm.trouble(pod["metadata"]["name"], **ended | {"phase": "Failed" if code else "Succeeded"})


@pytest.fixture
def downloading(llm: Pool, operator: Operator) -> tuple[Pool, str]:
    """A pool with a shared volume whose endpoint was just given other weights, and the revision of their Job."""
    llm.as_left(endpoint(**HUB), weights="Shared", commit=COMMIT)
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    llm.run()
    llm.edit("chat", model={"repo": "org/two"})
    (job,) = until(lambda: llm.list("jobs"), lambda: (llm.status(), operator.story()))
    return llm, job["metadata"]["annotations"][names.REVISION]


def test_new_weights_are_brought_by_a_job_before_any_pod_goes(
    downloading: tuple[Pool, str], operator: Operator
) -> None:
    llm, revision = downloading
    before = set(llm.tritons)
    (job,) = llm.list("jobs")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "TRITONLLM_REVISION", "value": revision} in container["env"]
    assert set(llm.file(revision)) == {"chat"}
    until(lambda: llm.condition("WeightsReady")[:2] == ("False", "WeightsDownloading"), llm.status)
    assert llm.condition("Ready")[0] == "True"
    assert llm.revision() is None
    assert set(llm.tritons) == before
    other = COMMIT[::-1]
    job_ends(llm, revision, 0, f'{{"endpoints": {{"chat": {{"commit": "{other}"}}}}}}')
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    assert llm.revision() == revision
    assert llm.status()["model"]["commit"] == other


def test_a_branch_is_resolved_again_on_request_and_the_pods_roll_to_its_commit(
    llm: Pool, operator: Operator
) -> None:
    llm.as_left(endpoint(**HUB), weights="Shared", commit=COMMIT)
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    llm.run()
    llm.patch("llmendpoints", "chat", {"metadata": {"annotations": {names.RESOLVE: "now"}}})
    (job,) = until(lambda: llm.list("jobs"), lambda: (llm.status(), operator.story()))
    revision = job["metadata"]["annotations"][names.REVISION]
    other = COMMIT[::-1]
    job_ends(llm, revision, 0, f'{{"endpoints": {{"chat": {{"commit": "{other}"}}}}}}')
    until(lambda: llm.revision() == revision and llm.as_wanted(), lambda: (llm.status(), operator.story()))
    assert llm.status()["model"]["commit"] == other


def test_weights_that_can_not_be_had_are_told_and_no_pod_goes(
    downloading: tuple[Pool, str], operator: Operator
) -> None:
    llm, revision = downloading
    told = '{"endpoints": {"chat": {"reason": "GatedRepo", "message": "ask for access to org/two"}}}'
    job_ends(llm, revision, 21, told)
    gated = ("False", "GatedRepo", "ask for access to org/two")
    until(lambda: llm.condition("WeightsReady") == gated, lambda: (llm.status(), operator.story()))
    assert llm.condition("Ready")[:2] == ("True", "ServingFormerVersion")
    assert llm.revision() is None
    # Back to the weights that are there: nothing has to be downloaded, and the Job is of no use any more.
    llm.edit("chat", model=HUB["model"])
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    until(lambda: not llm.list("jobs"), operator.story)
    assert llm.revision() is None


def test_a_rehearsal_shows_the_plan_and_touches_nothing(served: Pool, operator: Operator) -> None:
    served.patch("llmendpoints", "chat", {"metadata": {"annotations": {names.PLAN_ONLY: "true"}}})
    served.edit("chat", engine=SLOWER)
    until(lambda: served.status()["plan"]["action"] == "Roll", lambda: (served.status(), operator.story()))
    assert "nothing is done" in served.status()["plan"]["message"]
    assert served.revision() is None
    assert served.live(CHAT)
    served.patch("llmendpoints", "chat", {"metadata": {"annotations": {names.PLAN_ONLY: None}}})
    until(served.as_wanted, lambda: (served.status(), operator.story()))
    assert served.revision()
