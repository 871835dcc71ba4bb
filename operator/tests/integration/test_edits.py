"""Edits of endpoints come to every pod in place, and nothing else does."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Callable

import pytest

import model_control
import pool
from pool import Operator, Pool, endpoint, until, until_as_wanted
from tritonllm_operator import objects, plan

CHAT, CODE = endpoint(), endpoint("code")


def served(llm: Pool, operator: Operator, *endpoints: pool.Json) -> None:
    """A pool that serves these endpoints."""
    llm.as_left(*endpoints)
    until_as_wanted(llm, operator, *(item["metadata"]["name"] for item in endpoints))


def test_a_first_install_writes_the_file_once_and_its_pods_need_no_roll(
    llm: Pool, operator: Operator
) -> None:
    # The operator sees them together, as one command creates them, however long that takes on a busy machine.
    os.kill(operator.pid, signal.SIGSTOP)
    try:
        llm.install()
        for item in (CHAT, CODE):
            llm.create("llmendpoints", item)
    finally:
        os.kill(operator.pid, signal.SIGCONT)
    until(lambda: llm.get("configmaps", "llm-endpoints"), operator.story)
    assert set(llm.file()) == {"chat", "code"}
    llm.settle()
    until_as_wanted(llm, operator, "chat", "code")
    assert llm.revision() is None
    assert model_control.changes(llm.tritons.values()) == [[], []]
    assert llm.status()["pods"] == {"desired": 2, "loaded": 2, "summary": "2/2"}
    assert llm.status()["plan"]["action"] == "None"
    until(lambda: ("Normal", "Ready") in pool.counted(llm.events()))


def test_the_first_pods_of_a_pool_start_with_all_endpoints_of_their_chart_however_late_these_come(
    llm: Pool, operator: Operator
) -> None:
    llm.install(brings="chat code")
    created = llm.create("llmendpoints", CHAT)["metadata"]["creationTimestamp"]
    until(lambda: llm.condition("Loaded")[1] == "EndpointsMissing", lambda: (llm.status(), operator.story()))
    # Later than what no chart announces is waited for.
    until(lambda: datetime.datetime.now(datetime.UTC) - objects.time(created) > 2 * plan.QUIET)
    operator.until_looked()
    assert llm.get("configmaps", "llm-endpoints") is None
    llm.create("llmendpoints", CODE)
    until(lambda: llm.get("configmaps", "llm-endpoints"), operator.story)
    assert set(llm.file()) == {"chat", "code"}
    llm.run()
    until_as_wanted(llm, operator, "chat", "code")
    assert llm.revision() is None


def test_an_edited_policy_is_live_on_every_pod_with_its_complete_configuration(
    llm: Pool, operator: Operator
) -> None:
    served(llm, operator, CHAT, CODE)
    llm.ban("chat", "other", "words")
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    for done in model_control.changes(llm.tritons.values()):
        assert sorted(done) == [("load", "chat"), ("load", "chat-guardrail")]
    assert llm.status()["plan"]["action"] == "InPlace"
    assert llm.file()["chat"]["guardrails"]["output"][0]["banned"]["phrases"] == ["other", "words"]
    assert llm.revision() is None
    assert until(lambda: pool.counted(llm.events())["Normal", "InPlace"]) == 1


def test_a_refused_edit_keeps_the_old_version_says_which_field_and_is_over_with_the_next_one(
    llm: Pool, operator: Operator
) -> None:
    served(llm, operator, CHAT)
    # Not what a schema could know.
    llm.edit("chat", engine={"args": {"no_such_argument": 1}})
    until(lambda: llm.condition("Accepted")[0] == "False", lambda: (llm.status(), operator.story()))
    _, reason, message = llm.condition("Accepted")
    assert reason == "InvalidEngineArgs"
    assert message.startswith("spec.engine.args.no_such_argument: ")
    assert llm.condition("Ready")[:2] == ("True", "ServingFormerVersion")
    assert llm.status()["plan"]["action"] == "Reject"
    assert llm.live(CHAT)
    assert until(lambda: pool.counted(llm.events())["Warning", "InvalidEngineArgs"]) == 1
    llm.edit("chat", engine={"args": {"no_such_argument": None}})
    until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    assert llm.status()["plan"]["action"] == "None"
    assert model_control.changes(llm.tritons.values()) == [[], []]


def test_a_deleted_endpoint_is_unloaded_pipeline_first_and_the_others_are_left_alone(
    llm: Pool, operator: Operator
) -> None:
    served(llm, operator, CHAT, CODE)
    llm.delete("llmendpoints", "code")
    gone = {("unload", "code"), ("unload", "code-guardrail"), ("unload", "code-engine")}
    until(lambda: all(set(triton.done) == gone for triton in llm.tritons.values()), operator.story)
    for done in model_control.changes(llm.tritons.values()):
        assert done[0] == ("unload", "code")
    until(lambda: set(llm.file()) == {"chat"}, operator.story)
    assert llm.as_wanted()


@pytest.mark.parametrize("what", ["deleted", "edited", "spoilt", "newer", "extended", "unlabelled"])
def test_the_file_that_pods_boot_from_is_restored(llm: Pool, operator: Operator, what: str) -> None:
    served(llm, operator, CHAT)
    before = llm.get("configmaps", "llm-endpoints")
    assert before is not None
    text = before["data"]["revision-.yaml"]
    spoil: dict[str, Callable[[], object]] = {
        "deleted": lambda: llm.delete("configmaps", "llm-endpoints"),
        "edited": lambda: edit({"data": {"revision-.yaml": text.replace("forbidden", "anything")}}),
        "spoilt": lambda: edit({"data": {"revision-.yaml": "{"}}),
        "newer": lambda: edit({"data": {"revision-.yaml": text.replace('"spec":{', '"spec":{"shiny":1,')}}),
        "extended": lambda: edit(
            {
                "data": {"revision-more.yaml": text},
                "metadata": {"annotations": {"tritonllm.io/failed-because": "whim"}},
            }
        ),
        "unlabelled": lambda: edit({"metadata": {"labels": None}}),
    }

    def edit(body: pool.Json) -> None:
        llm.patch("configmaps", "llm-endpoints", body)

    def same() -> bool:
        found = llm.get("configmaps", "llm-endpoints") or {"metadata": {}}
        parts = [found.get("data") == before["data"]]
        parts += [
            found["metadata"].get(part) == before["metadata"][part] for part in ("labels", "annotations")
        ]
        return all(parts)

    spoil[what]()
    until(lambda: not same() or operator.passes())
    until(same, lambda: (llm.get("configmaps", "llm-endpoints"), operator.story()))
    assert llm.as_wanted()
    assert model_control.changes(llm.tritons.values()) == [[], []]
    assert llm.revision() is None


def test_the_file_of_a_refused_endpoint_is_restored_and_what_it_said_never_loaded(
    llm: Pool, operator: Operator
) -> None:
    served(llm, operator, CHAT)
    accepted = until(lambda: llm.status().get("policyHash"), operator.story)
    assert set(llm.status()["observedPolicyHash"].values()) == {accepted}
    llm.edit("chat", engine={"args": {"no_such_argument": 1}})
    until(lambda: llm.condition("Accepted")[0] == "False", lambda: (llm.status(), operator.story()))
    before = llm.file()
    text = (llm.get("configmaps", "llm-endpoints") or {})["data"]["revision-.yaml"]
    body = {"data": {"revision-.yaml": text.replace("forbidden", "anything")}}
    forged = llm.patch("configmaps", "llm-endpoints", body)["metadata"]["resourceVersion"]

    def restored() -> bool:
        found = llm.get("configmaps", "llm-endpoints")
        return bool(found) and found["metadata"]["resourceVersion"] != forged and llm.file() == before

    until(restored, lambda: (llm.file(), operator.story()))
    assert model_control.changes(llm.tritons.values()) == [[], []]
    assert llm.status()["policyHash"] == accepted
