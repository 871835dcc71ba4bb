"""What is done about a pool, as a table of what was seen."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import worlds
from tritonllm_operator import facts, names, plan, pools, releases, revisions, status
from tritonllm_operator.decisions import Decision
from tritonllm_operator.loads import Load
from worlds import endpoint, held, pod, resource, stable, steps, vllm, world


def decided(seen: facts.World) -> plan.Plan:
    return plan.decide(seen)


def file(found: plan.Plan, revision: str) -> dict[str, Any]:
    assert found.data is not None
    return {item["metadata"]["name"]: item for item in json.loads(found.data[names.key(revision)])["items"]}


def wanted(found: plan.Plan) -> dict[str, Any]:
    return {name: revisions.resource(item) for name, item in found.wanted.items()}


CHAT, EDITED = resource(), resource(phrases=["other"])
FASTER = resource(engine={"type": "simulated", "args": {"inter_token_seconds": 0.5}})
CODE = resource("code")


@pytest.mark.parametrize("pods", [1, 3])
@pytest.mark.parametrize("endpoints", [(CHAT,), (CHAT, CODE), (vllm(commit=worlds.COMMIT),), ()], ids=len)
def test_a_stable_pool_is_left_alone(endpoints: tuple[dict[str, Any], ...], pods: int) -> None:
    found = decided(stable(*endpoints, pods=pods))
    assert not found.acts
    assert set(worlds.actions(found).values()) <= {"None"}


def test_an_edited_policy_is_loaded_on_every_pod_and_written_for_pods_to_come() -> None:
    seen = replace(stable(CHAT, pods=2), endpoints=[EDITED])
    found = decided(seen)
    loads = {("load", f"llm-{number}", model) for number in (1, 2) for model in ("chat", "chat-guardrail")}
    assert steps(found) == loads
    assert found.decisions["chat"] == Decision("InPlace", ("chat", "chat-guardrail"))
    assert file(found, "")["chat"]["spec"]["guardrails"] == EDITED["spec"]["guardrails"]
    assert found.aim.revision is None


def test_an_edited_limit_touches_only_the_pipeline() -> None:
    seen = replace(stable(CHAT), endpoints=[resource(limits={"maxQueuedRequests": 7})])
    assert steps(decided(seen)) == {("load", "llm-1", "chat")}


def test_limits_are_changed_in_place() -> None:
    many = resource(phrases=["other"], limits={"maxConcurrentRequests": 1024})
    found = decided(replace(stable(CHAT), endpoints=[many]))
    assert not found.aim.revision
    assert found.decisions["chat"].action == "InPlace"


def test_the_configuration_of_a_load_is_complete() -> None:
    (step, *_) = decided(replace(stable(CHAT), endpoints=[EDITED])).steps
    assert isinstance(step, Load)
    config = json.loads(step.config)
    assert {"backend", "parameters", "input", "output"} <= config.keys()
    assert config["parameters"]["spec_hash"]["string_value"] == step.spec_hash


def test_a_pod_that_boots_loads_its_models_itself() -> None:
    seen = replace(stable(CHAT), endpoints=[EDITED])
    booting = replace(seen.pods[0], started=False)
    assert not decided(replace(seen, pods=[booting])).steps


def test_what_somebody_else_loaded_is_loaded_over() -> None:
    seen = stable(CHAT)
    other = held(CHAT) | {"chat-guardrail": facts.ModelState(facts.READY, "v1:other", "guardrail")}
    found = decided(replace(seen, pods=[replace(seen.pods[0], models=other)]))
    assert steps(found) == {("load", "llm-1", "chat-guardrail")}
    assert found.decisions["chat"].action == "InPlace"
    assert found.data is None


@pytest.mark.parametrize("state", [facts.LOADING, facts.UNLOADING])
def test_a_model_on_its_way_is_waited_for(state: str) -> None:
    seen = stable(CHAT)
    busy = held(CHAT) | {"chat": facts.ModelState(state)}
    assert not decided(replace(seen, pods=[replace(seen.pods[0], models=busy)])).steps


def test_a_dead_pipeline_is_loaded_again() -> None:
    seen = stable(CHAT)
    dead = held(CHAT) | {"chat": facts.ModelState("UNAVAILABLE", reason="it crashed")}
    assert steps(decided(replace(seen, pods=[replace(seen.pods[0], models=dead)]))) == {
        ("load", "llm-1", "chat")
    }


def test_without_its_engine_nothing_is_loaded() -> None:
    seen = stable(CHAT)
    broken = {"chat-engine": facts.ModelState("UNAVAILABLE", reason="out of memory")}
    assert not decided(replace(seen, pods=[replace(seen.pods[0], models=broken)])).steps


def test_a_load_that_failed_waits_for_its_time() -> None:
    seen = replace(stable(CHAT), endpoints=[EDITED])
    hashes = revisions.hashes(endpoint(EDITED))
    later = facts.Attempt(facts.Trouble("LoadFailed", "no"), worlds.NOW + datetime.timedelta(seconds=1))
    attempts = {("llm-1", model, digest): later for model, digest in hashes.items()}
    assert not decided(replace(seen, attempts=attempts)).steps
    due = replace(seen, attempts=attempts, now=later.again)
    assert len(decided(due).steps) == 2


def test_a_changed_engine_rolls_the_pods_to_a_new_revision() -> None:
    found = decided(replace(stable(CHAT, pods=2), endpoints=[FASTER]))
    assert found.aim.revision
    assert found.decisions["chat"].action == "Roll"
    assert not found.decisions["chat"].disruptive
    assert not found.steps
    assert file(found, "")["chat"]["spec"]["engine"] == CHAT["spec"]["engine"]
    assert file(found, found.aim.revision)["chat"]["spec"]["engine"] == FASTER["spec"]["engine"]


def test_a_policy_edited_with_the_engine_is_live_on_the_old_pods_at_once() -> None:
    both = resource(phrases=["other"], engine=FASTER["spec"]["engine"])
    found = decided(replace(stable(CHAT), endpoints=[both]))
    assert steps(found) == {("load", "llm-1", "chat"), ("load", "llm-1", "chat-guardrail")}
    assert file(found, "")["chat"]["spec"]["guardrails"] == both["spec"]["guardrails"]
    assert found.aim.revision


def test_a_new_endpoint_comes_with_new_pods_and_the_old_ones_serve_the_others() -> None:
    found = decided(replace(stable(CHAT), endpoints=[CHAT, CODE]))
    assert found.aim.revision
    assert set(file(found, "")) == {"chat"}
    assert set(file(found, found.aim.revision)) == {"chat", "code"}
    assert worlds.actions(found) == {"chat": "None", "code": "Roll"}


def test_a_roll_of_the_only_pod_without_surge_is_said_to_be_downtime() -> None:
    assert decided(replace(stable(CHAT), endpoints=[FASTER])).decisions["chat"].disruptive
    surging = replace(stable(CHAT, max_surge="1"), endpoints=[FASTER])
    assert not decided(surging).decisions["chat"].disruptive


def test_an_endpoint_that_is_gone_is_unloaded_pipeline_first() -> None:
    seen = replace(stable(CHAT, CODE), endpoints=[CHAT])
    found = decided(seen)
    assert steps(found) == {("unload", "llm-1", "code")}
    assert set(file(found, "")) == {"chat"}
    assert found.aim.revision is None
    models = held(CHAT, CODE)
    unloading = models | {"code": facts.ModelState(facts.UNLOADING)}
    assert not decided(replace(seen, pods=[replace(seen.pods[0], models=unloading)])).steps
    unloaded = models | {"code": facts.ModelState("UNAVAILABLE")}
    assert steps(decided(replace(seen, pods=[replace(seen.pods[0], models=unloaded)]))) == {
        ("unload", "llm-1", "code-engine"),
        ("unload", "llm-1", "code-guardrail"),
    }


def test_the_models_of_others_are_left_alone() -> None:
    seen = stable(CHAT)
    others = held(CHAT) | {"resnet": facts.ModelState(facts.READY)}
    assert not decided(replace(seen, pods=[replace(seen.pods[0], models=others)])).acts


def test_an_endpoint_that_comes_back_after_it_was_removed_in_place_rolls_again() -> None:
    rolled = decided(replace(stable(CHAT), endpoints=[CHAT, CODE])).aim.revision
    assert rolled is not None
    seen = replace(
        stable(CHAT, revision=rolled),
        endpoints=[CHAT, CODE],
        files=replace(worlds.files_of(**{rolled: [CHAT]}), marks={names.GOOD: rolled}),
        pods=[pod("llm-1", CHAT, revision=rolled)],
    )
    assert decided(seen).aim.revision not in (None, rolled)


REFUSED = {
    "spec": resource(limits={"maxQueuedRequests": -1}),
    "argument": vllm(max_modl_len=5),
    "timeout": resource(limits={"requestTimeoutSeconds": 301}),
    "gpus": vllm(tensor_parallel_size=2),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_leaves_the_last_good_version_alone(kind: str) -> None:
    found = decided(replace(stable(CHAT), endpoints=[REFUSED[kind]]))
    assert found.decisions["chat"].action == "Reject"
    assert not found.acts
    assert wanted(found) == {"chat": revisions.resource(endpoint(CHAT))}


LATER = resource(phrases=["later"])
UNACCEPTED = {
    "refused": resource(phrases=["later"], limits={"requestTimeoutSeconds": 3000}),
    "plan only": LATER | {"metadata": LATER["metadata"] | {"annotations": {names.PLAN_ONLY: "true"}}},
}
WITH_HASH = {"status": {"policyHash": revisions.policy_hash(endpoint(CHAT))}}
FORGED = resource(phrases=["harmless"])


@pytest.mark.parametrize("kind", UNACCEPTED)
def test_the_config_map_of_an_endpoint_that_is_not_accepted_is_no_way_to_change_its_policy(kind: str) -> None:
    seen = replace(stable(CHAT, pods=2), endpoints=[UNACCEPTED[kind] | WITH_HASH])
    forged = replace(seen, files=replace(worlds.files_of(first=[FORGED]), marks={names.GOOD: ""}))
    assert not decided(forged).steps
    # Nor where a new pod has booted from it.
    booted = replace(forged, pods=[pod("llm-1", FORGED), pod("llm-2", CHAT)])
    assert not decided(booted).steps
    # The operator knows what it wrote.
    found = decided(replace(booted, recorded=seen.files))
    assert file(found, "") == {"chat": revisions.resource(endpoint(CHAT))}
    assert steps(found) == {("load", "llm-1", "chat"), ("load", "llm-1", "chat-guardrail")}


def test_an_entry_of_a_refused_endpoint_that_was_spoilt_is_put_back() -> None:
    seen = replace(stable(CHAT), endpoints=[UNACCEPTED["refused"] | WITH_HASH])
    spoilt = pools.Files({"": [newer(revisions.resource(endpoint(CHAT)))]}, marks={names.GOOD: ""})
    found = decided(replace(seen, files=spoilt, recorded=seen.files))
    assert file(found, "") == {"chat": revisions.resource(endpoint(CHAT))}
    assert not steps(found)
    assert found.aim.revision is None


def test_what_was_recorded_is_believed_by_the_hash_in_the_status_alone() -> None:
    seen = replace(stable(CHAT), endpoints=[UNACCEPTED["refused"]])
    forged = replace(seen, files=replace(worlds.files_of(first=[FORGED]), marks={names.GOOD: ""}))
    for recorded, noted in ((seen.files, {}), (forged.files, WITH_HASH)):
        found = decided(replace(forged, endpoints=[UNACCEPTED["refused"] | noted], recorded=recorded))
        assert not found.acts


def test_the_last_version_that_was_accepted_still_comes_to_all_pods() -> None:
    seen = replace(stable(CHAT, pods=2), endpoints=[UNACCEPTED["refused"] | WITH_HASH])
    found = decided(replace(seen, pods=[pod("llm-1", FORGED), pod("llm-2", CHAT)]))
    assert steps(found) == {("load", "llm-1", "chat"), ("load", "llm-1", "chat-guardrail")}


def test_the_hash_of_what_was_accepted_stays_while_a_later_version_is_refused() -> None:
    seen = stable(CHAT)
    found = status.build(seen, decided(seen), "chat")
    assert found["policyHash"] == WITH_HASH["status"]["policyHash"]
    assert found["observedPolicyHash"] == {"llm-1": found["policyHash"]}
    away = replace(seen, pods=[])
    assert "observedPolicyHash" not in status.build(away, decided(away), "chat")
    for unaccepted in UNACCEPTED.values():
        seen = replace(stable(CHAT), endpoints=[{**unaccepted, "status": found}])
        assert status.build(seen, decided(seen), "chat")["policyHash"] == found["policyHash"]


def test_what_is_refused_from_the_start_is_not_wanted() -> None:
    found = decided(replace(stable(CHAT), endpoints=[CHAT, REFUSED["spec"] | {"metadata": CODE["metadata"]}]))
    assert found.wanted.keys() == {"chat"}
    assert not found.acts


def test_engines_that_ask_for_more_than_a_gpu_has_are_refused_the_newest_first() -> None:
    first, second = (
        vllm(commit=worlds.COMMIT, gpu_memory_utilization=0.6),
        vllm("code", gpu_memory_utilization=0.5),
    )
    found = decided(replace(stable(first, gpus=1), endpoints=[second, vllm(gpu_memory_utilization=0.6)]))
    (refused,) = [item for item in found.judged if item.refusal]
    assert (refused.name, refused.refusal and refused.refusal.reason) == ("code", "MemoryBudget")
    assert refused.refusal
    assert "chat 0.6, code 0.5" in refused.refusal.message
    assert not found.acts


def test_a_rehearsal_shows_the_plan_and_touches_nothing() -> None:
    for edited, action in ((EDITED, "InPlace"), (FASTER, "Roll"), (REFUSED["spec"], "Reject")):
        metadata = edited["metadata"] | {"annotations": {names.PLAN_ONLY: "true"}}
        found = decided(replace(stable(CHAT), endpoints=[edited | {"metadata": metadata}]))
        assert found.decisions["chat"].action == action
        assert not found.acts
        assert wanted(found) == {"chat": revisions.resource(endpoint(CHAT))}


def test_no_pool_and_a_pool_of_its_chart_alone_get_nothing_but_refusals() -> None:
    for pool, reason in ((None, "PoolNotFound"), (replace(worlds.POOL, managed=False), "PoolNotManaged")):
        found = decided(world(CHAT, pool=pool))
        assert not found.acts
        assert [item.refusal and item.refusal.reason for item in found.judged] == [reason]


def young(seen: facts.World, **ago: float) -> facts.World:
    assert seen.pool is not None
    return replace(seen, pool=replace(seen.pool, changed=worlds.NOW - datetime.timedelta(**ago)))


def test_the_first_file_waits_until_no_endpoint_has_just_come() -> None:
    fresh = resource()
    fresh["metadata"] |= {"creationTimestamp": "2026-01-02T03:04:04Z"}
    assert not decided(world(CHAT, fresh | {"metadata": fresh["metadata"] | {"name": "code"}})).acts
    found = decided(world(CHAT, CODE))
    assert set(file(found, "")) == {"chat", "code"}
    assert found.aim.revision is None


def announced(*endpoints: dict[str, Any], ago: float = 0.0, **more: Any) -> facts.World:
    """A new pool whose chart brings `chat` and `code`, and those that are there; the last has just come."""
    created = (worlds.NOW - datetime.timedelta(seconds=ago)).isoformat()
    fresh = [item | {"metadata": item["metadata"] | {"creationTimestamp": created}} for item in endpoints]
    return world(*fresh, pool=replace(worlds.POOL, brings=frozenset({"chat", "code"})), **more)


@pytest.mark.parametrize("handed_over", [False, True], ids=["new", "handed over"])
def test_the_first_file_waits_for_what_the_chart_brings_and_for_nothing_else(handed_over: bool) -> None:
    pods = [pod("llm-1", CHAT, static=True), facts.Pod("llm-2")] if handed_over else []
    waiting = announced(CHAT, ago=19, pods=pods)
    found = decided(waiting)
    assert not found.acts
    assert found.waits
    told = status.build(waiting, found, "chat")["conditions"]
    (loaded,) = [item for item in told if item["type"] == "Loaded"]
    assert loaded["reason"] == "EndpointsMissing"
    assert " for code, " in loaded["message"]
    assert set(file(decided(announced(CHAT, CODE, pods=pods)), "")) == {"chat", "code"}


def test_what_the_chart_brings_and_never_comes_keeps_the_others_waiting_for_20_seconds() -> None:
    waited = announced(CHAT, ago=20)
    assert set(file(decided(waited), "")) == {"chat"}
    # Another one that has just come doesn't make them wait for longer.
    other = resource("other")
    other["metadata"] |= {"creationTimestamp": worlds.NOW.isoformat()}
    seen = replace(waited, endpoints=[*waited.endpoints, other])
    assert set(file(decided(seen), "")) == {"chat", "other"}
    # A file that is there is changed at once.
    seen = announced(CHAT, files=worlds.files_of(first=[CODE]))
    assert not decided(seen).waits


def test_a_pool_that_nobody_gives_an_endpoint_boots_without_any() -> None:
    assert not decided(young(world(), seconds=5)).acts
    assert file(decided(young(world(), seconds=30)), "") == {}


def handed_over(*endpoints: dict[str, Any], files: pools.Files | None = None) -> facts.World:
    """A pool that its chart has served until now with `chat`, and its first pod as the operator's."""
    static = pod("llm-1", CHAT, static=True)
    fresh = facts.Pod("llm-2")
    return young(world(*endpoints, pods=[static, fresh], files=files), seconds=1)


@pytest.mark.parametrize("files", [None, worlds.files_of(first=[CHAT])], ids=["first", "again"])
def test_a_pool_just_handed_over_serves_on_until_its_endpoints_are_there(files: pools.Files | None) -> None:
    for ago in (1, 3600):
        assert not decided(young(handed_over(files=files), seconds=ago)).acts
    fresh = resource() | {"metadata": CHAT["metadata"] | {"creationTimestamp": "2026-01-02T03:04:04Z"}}
    assert not decided(handed_over(CODE, fresh, files=files)).acts


def test_an_endpoint_that_the_operator_refuses_stays_on_the_pods_of_the_chart_that_serve_it() -> None:
    slow = resource(limits={"requestTimeoutSeconds": 600})
    found = decided(handed_over(slow, CODE))
    assert found.decisions["chat"].action == "Reject"
    assert not found.acts
    # One that nobody serves keeps nobody waiting.
    assert set(file(decided(handed_over(CHAT, slow | {"metadata": CODE["metadata"]})), "")) == {"chat"}


def test_pods_of_the_chart_are_left_as_they_are_and_those_to_come_have_what_is_wanted() -> None:
    found = decided(handed_over(FASTER, CODE))
    assert set(file(found, "")) == {"chat", "code"}
    assert file(found, "")["chat"]["spec"]["engine"] == FASTER["spec"]["engine"]
    assert found.aim.revision is None
    assert not found.steps


def test_an_endpoint_that_goes_in_the_middle_of_a_hand_over_stays_on_the_pods_of_the_chart() -> None:
    booted = pod("llm-2", CHAT, CODE)
    seen = replace(handed_over(CODE), files=worlds.files_of(first=[CHAT, CODE]))
    seen = replace(seen, pods=[seen.pods[0], booted])
    assert steps(decided(seen)) == {("unload", "llm-2", "chat")}


def test_a_lost_config_map_is_written_again_and_nothing_rolls() -> None:
    found = decided(replace(stable(CHAT), files=None))
    assert set(file(found, "")) == {"chat"}
    assert found.aim.revision is None
    assert not found.steps


def test_with_the_config_map_lost_a_changed_engine_still_rolls() -> None:
    found = decided(replace(stable(CHAT), files=None, endpoints=[FASTER]))
    assert found.aim.revision
    assert file(found, "") == {}
    assert not found.steps


def test_a_spoilt_key_of_the_config_map_is_written_again() -> None:
    spoilt = {"metadata": {"annotations": {names.GOOD: ""}}, "data": {names.key(""): "nonsense"}}
    found = decided(replace(stable(CHAT), files=pools.files(spoilt)))
    assert set(file(found, "")) == {"chat"}
    assert found.aim.revision is None


def test_a_finished_roll_is_the_good_one_and_only_its_file_stays() -> None:
    seen = replace(
        stable(FASTER, revision="r1"),
        files=replace(worlds.files_of(first=[CHAT], r1=[FASTER]), marks={names.GOOD: ""}),
        pods=[pod("llm-1", FASTER, revision="r1")],
    )
    found = decided(seen)
    assert found.data is not None
    assert set(found.data) == {names.key("r1")}
    assert found.aim.marks == {names.GOOD: "r1"}


def rolling(**pool: Any) -> facts.World:
    """A pod of the old revision serves; one of the new one does not come up."""
    broken = pod("llm-2", revision="r1", started=False, ready=False, models={})
    broken = replace(broken, trouble=facts.Trouble("ContainerFailed", "it always ends"))
    numbers = {"replicas": 1, "updated": 1, "available": 1, "current": 2, "revision": "r1"}
    return world(
        FASTER,
        pool=replace(worlds.POOL, **(numbers | pool)),
        files=replace(worlds.files_of(first=[CHAT], r1=[FASTER]), marks={names.GOOD: ""}),
        pods=[pod("llm-1", CHAT), broken],
    )


def test_a_roll_in_time_is_left_alone_and_both_files_stay() -> None:
    assert not decided(rolling()).acts


def test_a_roll_that_misses_its_deadline_goes_back_and_says_why() -> None:
    found = decided(rolling(given_up=worlds.NOW))
    assert found.aim.revision == ""
    assert found.aim.marks[names.FAILED] == "r1"
    assert found.aim.marks[names.BECAUSE] == "it always ends"
    # What Kubernetes says of the former template does not count.
    assert not decided(rolling(given_up=worlds.NOW, observed=False)).acts


NO_NODE = facts.Trouble("Unschedulable", "no node takes pod llm-3")


def test_a_roll_with_a_new_pod_that_is_ready_is_not_taken_back_for_those_without_a_node() -> None:
    new = pod("llm-2", FASTER, revision="r1")
    unplaced = replace(pod("llm-3", revision="r1", started=False, ready=False), trouble=NO_NODE)
    numbers: dict[str, Any] = {"replicas": 3, "updated": 2, "available": 2, "current": 3}
    seen = replace(rolling(given_up=worlds.NOW, **numbers), pods=[pod("llm-1", CHAT), new, unplaced])
    assert not decided(seen).acts
    conditions = status.build(seen, decided(seen), "chat")["conditions"]
    assert {item["type"]: item["message"] for item in conditions}["Loaded"] == NO_NODE.message
    broken = replace(unplaced, trouble=facts.Trouble("ContainerFailed", "it always ends"))
    assert decided(replace(seen, pods=[seen.pods[0], new, broken])).aim.revision == ""


def test_a_pod_that_gets_its_node_after_the_deadline_may_start() -> None:
    new = pod("llm-2", FASTER, revision="r1")
    late = pod("llm-3", revision="r1", started=False, ready=False, placed=worlds.NOW)
    earlier = worlds.NOW - datetime.timedelta(seconds=1)
    numbers: dict[str, Any] = {"replicas": 3, "updated": 2, "available": 2, "current": 3}
    seen = rolling(given_up=earlier, **numbers)
    seen = replace(seen, pods=[pod("llm-1", CHAT), new, late])
    assert not decided(seen).acts
    broken = replace(late, trouble=facts.Trouble("ContainerFailed", "it always ends"))
    in_time = replace(late, placed=earlier - datetime.timedelta(seconds=60))
    for each in (broken, in_time):
        assert decided(replace(seen, pods=[pod("llm-1", CHAT), new, each])).aim.revision == ""


def test_more_pods_than_the_cluster_takes_do_not_keep_a_roll_open() -> None:
    new = pod("llm-2", FASTER, revision="r1")
    unplaced = replace(pod("llm-3", revision="r1", started=False, ready=False), trouble=NO_NODE)
    numbers: dict[str, Any] = {"replicas": 2, "updated": 2, "available": 1, "current": 2}
    assert decided(replace(rolling(**numbers), pods=[new, unplaced])).aim.marks == {names.GOOD: "r1"}
    starting = replace(unplaced, trouble=None)
    assert not decided(replace(rolling(**numbers), pods=[new, starting])).acts
    assert not decided(replace(rolling(**numbers), pods=[unplaced, replace(unplaced, name="llm-4")])).acts


def test_pods_of_another_image_need_what_the_former_ones_serve_until_they_are_all_there() -> None:
    seen = stable(CHAT, CODE, pods=2)
    assert seen.pool is not None
    by_helm = replace(seen, pool=replace(seen.pool, updated=1, current=3))
    assert needed(decided(by_helm)) == {"": {"chat", "code"}}
    assert by_helm.files is not None
    marked = replace(by_helm.files, needed={"": frozenset({"chat", "code"})})
    assert not decided(replace(by_helm, files=marked)).acts
    assert needed(decided(replace(seen, files=marked))) == {}


def test_a_roll_goes_back_with_the_reason_that_was_seen_before_a_container_was_started_again() -> None:
    seen = rolling(given_up=worlds.NOW)
    failed = {
        "type": "Loaded",
        "status": "False",
        "reason": "LoadFailed",
        "message": "chat-engine: no memory",
    }
    told = [{**each, "status": {"conditions": [failed]}} for each in seen.endpoints]
    quiet = [replace(each, trouble=None) for each in seen.pods]
    assert (
        decided(replace(seen, endpoints=told, pods=quiet)).aim.marks[names.BECAUSE]
        == "chat-engine: no memory"
    )
    assert decided(replace(seen, pods=quiet)).aim.marks[names.BECAUSE] == "they said nothing of why"


def test_a_version_that_was_taken_back_is_not_tried_again_until_it_changes() -> None:
    target = revisions.name({"chat": endpoint(FASTER)}, "")
    files = replace(
        worlds.files_of(first=[CHAT]),
        marks={names.GOOD: "", names.FAILED: target, names.BECAUSE: "it always ends"},
    )
    back = replace(stable(CHAT), endpoints=[FASTER], files=files)
    found = decided(back)
    assert not found.acts
    assert found.aim.holding
    assert found.aim.holding.reason == "RolledBack"
    assert "it always ends" in found.aim.holding.message
    slower = resource(engine={"type": "simulated", "args": {"inter_token_seconds": 0.25}})
    assert decided(replace(back, endpoints=[slower])).aim.revision
    # Whoever takes the edit back and makes it again wants it tried.
    assert names.FAILED not in decided(replace(back, endpoints=[CHAT])).aim.marks


def needed(found: plan.Plan) -> dict[str, frozenset[str]]:
    """What the files that are written call needed."""
    assert found.data is not None
    return dict(pools.files({"metadata": {}, "data": found.data}).needed)


def test_new_pods_need_what_the_old_ones_serve_and_nothing_that_is_new_or_broken() -> None:
    seen = stable(CHAT, CODE, pods=2)
    broken = held(CHAT) | {"code-engine": facts.ModelState("UNAVAILABLE", kind="engine", reason="no room")}
    other = resource("other")
    for models, served in ((held(CHAT, CODE), {"chat", "code"}), (broken, {"chat"})):
        pods = [replace(each, models=models) for each in seen.pods]
        found = decided(replace(seen, endpoints=[FASTER, CODE, other], pods=pods))
        assert found.aim.revision
        assert needed(found) == {found.aim.revision: served}


def test_what_new_pods_need_stays_so_until_the_roll_is_complete() -> None:
    pair = {"replicas": 2, "updated": 2, "available": 2, "current": 3}
    files = replace(
        worlds.files_of(first=[CHAT], r1=[FASTER]), marks={names.GOOD: ""}, needed={"r1": frozenset({"chat"})}
    )
    seen = replace(rolling(**pair), files=files)
    assert not decided(seen).acts
    # Nobody serves it any more, which is no reason to do without.
    assert not decided(replace(seen, pods=[seen.pods[1]])).acts
    there = [pod(f"llm-{number}", FASTER, revision="r1") for number in (2, 3)]
    assert seen.pool is not None
    complete = replace(seen.pool, current=2)
    assert needed(decided(replace(seen, pool=complete, pods=there))) == {}


def test_an_endpoint_that_is_deleted_during_a_roll_is_needed_no_more() -> None:
    files = replace(
        worlds.files_of(first=[CHAT, CODE], r1=[FASTER, CODE]),
        marks={names.GOOD: ""},
        needed={"r1": frozenset({"chat", "code"})},
    )
    seen = replace(rolling(replicas=2, current=3), files=files)
    assert needed(decided(seen)) == {"r1": frozenset({"chat"})}


def test_where_the_only_pod_goes_first_the_new_one_serves_what_it_can() -> None:
    found = decided(replace(stable(CHAT, CODE), endpoints=[FASTER, CODE]))
    assert found.decisions["chat"].disruptive
    assert needed(found) == {}
    found = decided(replace(stable(CHAT, CODE, max_surge="1"), endpoints=[FASTER, CODE]))
    assert needed(found) == {found.aim.revision: {"chat", "code"}}


def test_pods_of_a_pool_that_is_handed_over_need_what_those_of_its_chart_serve() -> None:
    seen = handed_over(CHAT, CODE)
    assert seen.pool is not None
    assert needed(decided(replace(seen, pool=replace(seen.pool, replicas=2)))) == {"": frozenset({"chat"})}


SHARED: dict[str, Any] = {"shared_weights": True, "downloads": True}
LLAMA = vllm(commit=worlds.COMMIT)
OTHER = vllm() | {"spec": vllm()["spec"] | {"model": {"repo": "org/other"}}}


def downloading(job: facts.Job | None, **pool: Any) -> plan.Plan:
    seen = replace(stable(LLAMA, **(SHARED | pool)), endpoints=[OTHER])
    return decided(replace(seen, jobs=[job] if job else []))


TARGET = revisions.name({"chat": endpoint(OTHER)}, "")


def test_new_weights_are_there_before_any_pod_is_replaced() -> None:
    found = downloading(None)
    assert (found.aim.start_job, found.aim.revision) == (TARGET, None)
    assert set(file(found, TARGET)) == {"chat"}
    assert found.aim.holding
    assert found.aim.holding.reason == "WeightsDownloading"
    assert downloading(facts.Job(TARGET, None)).aim.start_job is None
    assert downloading(facts.Job(TARGET, None)).aim.revision is None


def test_with_the_weights_there_the_pods_roll_at_the_reported_commit() -> None:
    found = downloading(facts.Job(TARGET, True, worlds.NOW, {"chat": {"commit": worlds.COMMIT}}))
    assert found.aim.revision == TARGET


def test_weights_that_can_not_be_had_hold_the_roll_and_are_tried_again_later() -> None:
    told = {"chat": {"reason": "GatedRepo", "message": "ask for access"}}
    found = downloading(facts.Job(TARGET, False, worlds.NOW, told))
    assert found.aim.revision is None
    assert found.aim.holding == facts.Trouble("GatedRepo", "ask for access")
    assert not found.aim.delete_jobs
    again = downloading(facts.Job(TARGET, False, worlds.NOW - facts.RETRY, told))
    assert again.aim.delete_jobs == (TARGET,)


def test_where_no_other_pod_can_mount_the_volume_the_pods_download_themselves() -> None:
    found = downloading(None, shared_weights=False)
    assert (found.aim.start_job, found.aim.revision) == (None, TARGET)


def test_the_same_weights_with_another_argument_need_no_download() -> None:
    seen = replace(stable(LLAMA, **SHARED), endpoints=[vllm(max_model_len=4096)])
    found = decided(seen)
    assert found.aim.start_job is None
    assert found.aim.revision
    assert file(found, found.aim.revision)["chat"]["resolved"] == {"commit": worlds.COMMIT}


def test_the_commit_that_a_pod_reports_is_written_for_all_to_come() -> None:
    seen = stable(vllm())
    reported = replace(seen.pods[0], weights={"chat": {"commit": worlds.COMMIT}})
    found = decided(replace(seen, pods=[reported]))
    assert file(found, "")["chat"]["resolved"] == {"commit": worlds.COMMIT}
    assert found.aim.revision is None
    assert not found.steps


def asking(value: str | None, before: dict[str, Any] = LLAMA, **pool: Any) -> facts.World:
    """A pool whose endpoint has this value of the annotation by which a revision is resolved again."""
    seen = stable(before, **(SHARED | pool))
    (resource,) = seen.endpoints
    annotations = {} if value is None else {names.RESOLVE: value}
    metadata = {**resource["metadata"], "annotations": annotations}
    return replace(seen, endpoints=[{**resource, "metadata": metadata}])


def test_a_revision_is_resolved_again_on_request_before_any_pod_is_replaced() -> None:
    found = decided(asking("2026-11-28"))
    assert worlds.actions(found) == {"chat": "Roll"}
    assert found.decisions["chat"].message == "spec.model.revision is resolved again"
    assert found.aim.start_job
    assert found.aim.revision is None
    wanted = file(found, found.aim.start_job)["chat"]["resolved"]
    assert wanted.keys() == {"request"}
    # The pods that serve stay at their commit, whatever becomes of the request.
    assert file(found, "")["chat"]["resolved"] == {"commit": worlds.COMMIT}

    told = {"chat": {"commit": "f" * 40}}
    target = found.aim.start_job
    files = pools.Files({"": [LLAMA], target: [vllm() | {"resolved": wanted}]}, marks={names.GOOD: ""})
    after = decided(
        replace(asking("2026-11-28"), files=files, jobs=[facts.Job(target, True, worlds.NOW, told)])
    )
    assert after.aim.revision == target
    assert file(after, target)["chat"]["resolved"] == wanted | {"commit": "f" * 40}
    assert file(after, "")["chat"]["resolved"] == {"commit": worlds.COMMIT}


@pytest.mark.parametrize("value", ["2026-11-28", None, ""])
def test_a_request_is_followed_once_and_taking_it_away_resolves_nothing(value: str | None) -> None:
    request = decided(asking("2026-11-28"))
    assert request.aim.start_job
    resolved = file(request, request.aim.start_job)["chat"]["resolved"] | {"commit": worlds.COMMIT}
    found = decided(asking(value, vllm() | {"resolved": resolved}))
    assert not found.acts
    assert worlds.actions(found) == {"chat": "None"}
    assert decided(asking("another", vllm() | {"resolved": resolved})).aim.start_job


def test_what_has_no_revision_to_resolve_is_not_touched_by_a_request() -> None:
    commit = vllm() | {"spec": vllm()["spec"] | {"model": worlds.REPO | {"revision": worlds.COMMIT}}}
    assert not decided(asking("now", commit)).acts
    assert not decided(asking("now", CHAT)).acts


def test_a_job_that_nobody_waits_for_is_deleted() -> None:
    found = decided(replace(stable(CHAT), jobs=[facts.Job("other", None)]))
    assert found.aim.delete_jobs == ("other",)


def test_jobs_and_pods_of_a_former_revision_keep_its_file() -> None:
    seen = replace(rolling(), pods=[pod("llm-1", CHAT)])
    assert not decided(seen).acts


def newer(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a field that only a newer version knows."""
    return {**data, "spec": {**data["spec"], "shiny": 1}}


def written_by_a_newer_operator(seen: facts.World, *entries: dict[str, Any]) -> facts.World:
    found = worlds.files_of(first=entries)
    items = [newer(item) if item["metadata"]["name"] == "chat" else item for item in found.revisions[""]]
    return replace(seen, files=pools.Files({"": items}, marks={names.GOOD: ""}))


def test_an_entry_that_cannot_be_read_is_judged_by_the_pods() -> None:
    found = decided(written_by_a_newer_operator(stable(CHAT, CODE), CHAT, CODE))
    assert worlds.actions(found) == {"chat": "None", "code": "None"}
    assert found.aim.revision is None
    assert not steps(found)


def test_pods_are_rolled_if_they_hold_another_engine_than_is_wanted_whatever_the_file_says() -> None:
    found = decided(written_by_a_newer_operator(replace(stable(CHAT), endpoints=[FASTER]), CHAT))
    assert worlds.actions(found) == {"chat": "Roll"}


@pytest.mark.parametrize("others", [(CODE,), (resource("code", phrases=["other"]),)], ids=["same", "edited"])
def test_an_endpoint_that_only_a_newer_operator_can_read_is_left_as_it_is(
    others: tuple[dict[str, Any], ...],
) -> None:
    seen = written_by_a_newer_operator(stable(CHAT, CODE), CHAT, CODE)
    found = decided(replace(seen, endpoints=[newer(CHAT), *others]))
    assert found.decisions["chat"].action == "Reject"
    assert found.aim.revision is None
    assert {model for _, _, model in steps(found)} <= {"code", "code-guardrail"}
    if found.data is not None:
        assert file(found, "")["chat"]["spec"]["shiny"] == 1
    assert (found.data is None) == (others == (CODE,))
    told = status.build(replace(seen, endpoints=[newer(CHAT), *others]), found, "chat")
    assert {item["type"]: item["reason"] for item in told["conditions"]}["Ready"] == "ServingFormerVersion"


def test_new_pods_boot_with_an_endpoint_that_only_a_newer_operator_can_read() -> None:
    seen = written_by_a_newer_operator(stable(CHAT, CODE, pods=2), CHAT, CODE)
    faster = resource("code", engine=FASTER["spec"]["engine"])
    found = decided(replace(seen, endpoints=[newer(CHAT), faster]))
    assert found.aim.revision
    assert file(found, found.aim.revision)["chat"]["spec"]["shiny"] == 1
    assert found.data is not None
    document = json.loads(found.data[names.key(found.aim.revision)])
    assert document["metadata"]["annotations"] == {"tritonllm.io/needed": "chat,code"}


def test_an_entry_that_cannot_be_read_goes_with_its_endpoint() -> None:
    seen = written_by_a_newer_operator(stable(CHAT, CODE), CHAT, CODE)
    found = decided(replace(seen, endpoints=[CODE]))
    assert file(found, "").keys() == {"code"}
    assert ("unload", "llm-1", "chat") in steps(found)


def test_a_pod_that_cannot_read_an_endpoint_says_so_in_its_status() -> None:
    told = {"chat": {"reason": "InvalidSpec", "message": "items[0].spec.shiny: unknown field `shiny`"}}
    seen = replace(stable(CHAT, CODE), pods=[pod("llm-1", CODE, weights=told)])
    found = decided(seen)
    reasons = {
        name: {item["type"]: item["reason"] for item in status.build(seen, found, name)["conditions"]}
        for name in ("chat", "code")
    }
    assert reasons["chat"]["Loaded"] == "PoolTooOld"
    assert reasons["code"]["Ready"] == "Serving"
    assert reasons["code"]["Loaded"] == "Loaded"


@pytest.mark.parametrize(
    ("forget", "path"),
    [
        (("limits", "maxQueuedRequests"), "spec.limits.maxQueuedRequests"),
        (("guardrails", "output", "banned"), "spec.guardrails.output[0].banned"),
        (("limits",), "spec.limits"),
    ],
)
def test_an_endpoint_with_a_field_that_the_pods_do_not_know_is_refused_and_the_others_proceed(
    monkeypatch: pytest.MonkeyPatch, forget: tuple[str, ...], path: str
) -> None:
    (current,) = releases._KNOWN.values()
    former = copy.deepcopy(current)
    holder = former
    for part in forget[:-1]:
        holder = holder[part]
    del holder[forget[-1]]
    monkeypatch.setitem(releases._KNOWN, "0.0.9", former)
    edited = resource("code", limits={"maxQueuedRequests": 7})
    other, changed = (
        resource("other", guardrails={}),
        resource("other", guardrails={}, sampling={"maxTokensLimit": 7}),
    )
    seen = stable(resource("code", guardrails={}), other, version="0.0.9")
    found = decided(replace(seen, endpoints=[edited, changed]))
    refusal = next(item for item in found.judged if item.name == "code").refusal
    assert refusal is not None
    assert refusal.reason == "PoolTooOld"
    assert path in refusal.message
    assert "0.0.9" in refusal.message
    assert "helm upgrade llm" in refusal.message
    assert worlds.actions(found) == {"code": "Reject", "other": "InPlace"}
    assert {model for _, _, model in steps(found)} == {"other"}
    for version in ("", "0.2.0", next(iter(releases._KNOWN))):
        later = replace(
            seen, endpoints=[edited, changed], pool=replace(seen.pool or worlds.POOL, version=version)
        )
        assert worlds.actions(decided(later))["code"] == "InPlace"


def test_a_value_that_the_pods_do_not_know_is_named_and_free_arguments_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(releases._KNOWN, "0.0.9", {"engine": {"type": ["vllm"], "args": None}})
    spec = {"engine": {"type": "new", "args": {"any": {"thing": 1}}}}
    assert releases.unknown(spec, "0.0.9") == ["spec.engine.type"]
