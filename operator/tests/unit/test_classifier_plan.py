"""What is done about a pool whose rules ask a classifier: it is there before they are, and goes after them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import worlds
from tritonllm_operator import plan, revisions
from worlds import resource, stable, steps

RULE = {"name": "toxic", "action": "Block", "classifier": {"model": "toxicity", "labels": ["toxic"]}}
CHAT = resource()
ASKING = resource(guardrails={"input": [RULE]})
TOXICITY = resource("toxicity", model={"path": "toxicity"}, engine={"type": "classifier"}, guardrails={})


def decided(*wanted: dict[str, Any], running: tuple[dict[str, Any], ...]) -> plan.Plan:
    return plan.decide(replace(stable(*running), endpoints=list(wanted)))


def test_a_stable_pool_with_a_classifier_is_left_alone() -> None:
    found = decided(ASKING, TOXICITY, running=(ASKING, TOXICITY))
    assert not found.acts
    assert set(worlds.actions(found).values()) == {"None"}


def test_a_rule_for_a_classifier_that_the_pool_does_not_have_is_refused_and_the_old_policy_stays() -> None:
    found = decided(ASKING, running=(CHAT,))
    assert found.decisions["chat"].action == "Reject"
    [judged] = found.judged
    assert judged.refusal is not None
    assert judged.refusal.reason == "ClassifierNotFound"
    assert "spec.guardrails.input[0].classifier.model: `toxicity` must be" in judged.refusal.message
    assert not found.steps


def test_an_endpoint_that_generates_is_no_classifier() -> None:
    found = decided(ASKING, resource("toxicity"), running=(CHAT, resource("toxicity")))
    assert found.decisions["chat"].action == "Reject"
    assert "its type is simulated" in found.decisions["chat"].message


def test_a_rule_for_a_new_classifier_comes_with_its_pods_and_old_pods_keep_their_policy() -> None:
    found = decided(ASKING, TOXICITY, running=(CHAT,))
    assert worlds.actions(found) == {"chat": "Roll", "toxicity": "Roll"}
    assert "its rules ask toxicity, which is new" in found.decisions["chat"].message
    assert not steps(found)
    running = {"chat": worlds.endpoint(CHAT)}
    old = revisions.in_place(running, found.wanted)
    assert {name: revisions.resource(item) for name, item in old.items()} == {
        name: revisions.resource(item) for name, item in running.items()
    }


def test_a_rule_for_a_classifier_that_runs_is_loaded_in_place() -> None:
    found = decided(ASKING, TOXICITY, running=(CHAT, TOXICITY))
    assert steps(found) == {("load", "llm-1", "chat"), ("load", "llm-1", "chat-guardrail")}


def test_a_classifier_that_is_deleted_stays_as_long_as_a_rule_asks_it() -> None:
    found = decided(ASKING, running=(ASKING, TOXICITY))
    assert found.decisions["chat"].action == "Reject"
    assert not steps(found)
    assert "toxicity" in found.wanted


def test_a_classifier_that_nobody_asks_is_unloaded_when_it_is_deleted() -> None:
    assert steps(decided(CHAT, running=(CHAT, TOXICITY))) == {("unload", "llm-1", "toxicity")}


def test_a_classifier_takes_no_gpu_of_the_engines() -> None:
    pool = stable(worlds.vllm(commit=worlds.COMMIT), gpus=1)
    found = plan.decide(replace(pool, endpoints=[*pool.endpoints, TOXICITY]))
    assert found.decisions["toxicity"].action == "Roll"
