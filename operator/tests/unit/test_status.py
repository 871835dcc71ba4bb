"""What `kubectl get llme` says of an endpoint, as a table of what was seen."""

from __future__ import annotations

import copy
import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

import worlds
from tritonllm_operator import events, facts, names, plan, pools, revisions, status
from worlds import endpoint, held, pod, resource, stable, vllm, world

CHAT, EDITED = resource(), resource(phrases=["other"])
FASTER = resource(engine={"type": "simulated", "args": {"inter_token_seconds": 0.5}})


def told(seen: facts.World, name: str = "chat") -> dict[str, Any]:
    return status.build(seen, plan.decide(seen), name)


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in found["conditions"]}


def message(found: dict[str, Any], kind: str = "Ready") -> str:
    return next(item["message"] for item in found["conditions"] if item["type"] == kind)


def with_status(item: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(item) | {"status": found}


def test_a_served_endpoint_has_all_conditions_true_and_an_address() -> None:
    found = told(stable(CHAT, pods=3))
    assert conditions(found) == {
        "Accepted": ("True", "Accepted"),
        "WeightsReady": ("True", "NotDownloaded"),
        "Loaded": ("True", "Loaded"),
        "Ready": ("True", "Serving"),
    }
    assert found["pods"] == {"desired": 3, "loaded": 3, "summary": "3/3"}
    assert found["url"] == "http://llm.prod:8000/v2/models/chat"
    assert {item["observedGeneration"] for item in found["conditions"]} == {1}


def test_the_url_is_that_of_openais_api_where_the_pool_speaks_it() -> None:
    world = stable(CHAT)
    assert world.pool is not None
    found = told(replace(world, pool=replace(world.pool, gateway=True)))
    assert found["url"] == "http://llm.prod:8080/v1"


def test_the_same_world_says_the_same_and_keeps_the_times() -> None:
    first = told(stable(CHAT))
    seen = stable(with_status(CHAT, first))
    later = replace(seen, now=worlds.NOW + datetime.timedelta(hours=1))
    assert told(later) == first


def test_the_time_of_a_condition_changes_with_its_status_alone() -> None:
    first = told(stable(CHAT))
    later = worlds.NOW + datetime.timedelta(hours=1)
    seen = replace(stable(with_status(CHAT, first)), now=later)
    down = told(replace(seen, pods=[replace(seen.pods[0], ready=False)]))
    times = {item["type"]: item["lastTransitionTime"] for item in down["conditions"]}
    assert times["Ready"] == "2026-01-02T04:04:05Z"
    assert times["Accepted"] == "2026-01-02T03:04:05Z"


def test_while_an_edit_is_loaded_the_endpoint_is_ready_in_the_version_before() -> None:
    found = told(replace(stable(CHAT), endpoints=[EDITED]))
    assert conditions(found)["Loaded"] == ("False", "Loading")
    assert conditions(found)["Ready"] == ("True", "ServingFormerVersion")
    assert found["plan"] == {
        "action": "InPlace",
        "models": ["chat", "chat-guardrail"],
        "message": "",
        "disruptive": False,
    }


def test_while_a_model_is_loaded_anew_its_old_version_serves() -> None:
    seen = replace(stable(CHAT), endpoints=[EDITED])
    busy = held(CHAT) | {"chat": facts.ModelState(facts.LOADING)}
    found = told(replace(seen, pods=[replace(seen.pods[0], models=busy)]))
    assert conditions(found)["Ready"] == ("True", "ServingFormerVersion")
    assert conditions(found)["Loaded"] == ("False", "Loading")


def test_while_a_pod_starts_the_conditions_say_what_its_engine_does() -> None:
    seen = stable(CHAT, pods=2)
    stages = {"chat-engine": "loading weights, 40 %", "other-engine": "warming up"}
    starting = [replace(each, started=False, ready=False, models=None, stages=stages) for each in seen.pods]
    found = told(replace(seen, pods=[starting[0], replace(starting[1], stages={})]))
    assert conditions(found)["Loaded"] == ("False", "Starting")
    for kind in ("Loaded", "Ready"):
        assert message(found, kind) == (
            "0 of 2 pods hold it as it is wanted; pod llm-1: loading weights, 40 %"
        )


def test_a_refused_edit_says_which_field_and_that_the_old_version_serves() -> None:
    found = told(replace(stable(CHAT), endpoints=[resource(limits={"maxQueuedRequests": -1})]))
    assert conditions(found)["Accepted"] == ("False", "InvalidSpec")
    assert message(found, "Accepted").startswith("spec.limits.maxQueuedRequests: ")
    assert conditions(found)["Ready"] == ("True", "ServingFormerVersion")
    assert found["plan"]["action"] == "Reject"


def test_a_misspelt_argument_comes_with_the_nearest_one() -> None:
    found = told(replace(stable(vllm(commit=worlds.COMMIT)), endpoints=[vllm(max_modl_len=5)]))
    assert conditions(found)["Accepted"] == ("False", "InvalidEngineArgs")
    assert "did you mean `max_model_len`?" in message(found, "Accepted")


@pytest.mark.parametrize(
    ("pool", "reason"),
    [(None, "PoolNotFound"), (replace(worlds.POOL, managed=False), "PoolNotManaged")],
)
def test_without_a_pool_nothing_is_true_and_every_condition_says_why(
    pool: pools.Pool | None, reason: str
) -> None:
    found = told(world(CHAT, pool=pool))
    assert conditions(found)["Accepted"] == ("False", reason)
    assert {conditions(found)[kind][0] for kind in ("WeightsReady", "Loaded", "Ready")} == {"False"}
    assert "llm" in message(found)
    assert "url" not in found


def starting(trouble: facts.Trouble | None = None, **more: Any) -> facts.World:
    fresh = pod("llm-1", started=False, ready=False, running=False, models=None, trouble=trouble, **more)
    return replace(stable(CHAT), pods=[fresh])


@pytest.mark.parametrize("reason", ["Unschedulable", "ImagePull", "ContainerFailed", "OutOfMemory"])
def test_what_keeps_a_pod_from_running_is_why_the_endpoint_is_not_ready(reason: str) -> None:
    found = told(starting(facts.Trouble(reason, "what is wrong, and what to do")))
    assert conditions(found)["Ready"] == ("False", reason)
    assert conditions(found)["Loaded"] == ("False", reason)
    assert message(found) == "what is wrong, and what to do"


def test_a_pod_on_its_way_is_no_trouble() -> None:
    assert conditions(told(starting()))["Ready"] == ("False", "Starting")
    assert conditions(told(replace(starting(), pods=[])))["Ready"] == ("False", "NoPods")


def test_pods_that_kubernetes_cannot_create_are_told_with_its_reason() -> None:
    seen = replace(starting(), pods=[])
    assert seen.pool is not None
    why = 'pods "llm-1" is forbidden: exceeded quota: small'
    found = told(replace(seen, pool=replace(seen.pool, not_created=why)))
    assert conditions(found)["Ready"] == conditions(found)["Loaded"] == ("False", "PodNotCreated")
    assert message(found) == f"Kubernetes cannot create a pod: {why}"
    assert (
        conditions(told(replace(stable(CHAT), pool=replace(seen.pool, not_created=why))))["Ready"][0]
        == "True"
    )


def test_one_pod_in_trouble_leaves_the_endpoint_ready_on_the_others() -> None:
    seen = stable(CHAT, pods=2)
    trouble = facts.Trouble("ImagePull", "no such image")
    broken = replace(seen.pods[1], started=False, ready=False, models=None, trouble=trouble)
    found = told(replace(seen, pods=[seen.pods[0], broken]))
    assert conditions(found)["Ready"] == ("True", "Serving")
    assert conditions(found)["Loaded"] == ("False", "ImagePull")
    assert found["pods"]["summary"] == "1/2"


def test_a_model_that_does_not_load_is_named_with_its_pod_and_reason() -> None:
    seen = stable(CHAT)
    broken = held(CHAT) | {"chat-engine": facts.ModelState("UNAVAILABLE", reason="no room for the KV cache")}
    found = told(replace(seen, pods=[replace(seen.pods[0], models=broken)]))
    assert conditions(found)["Ready"] == ("False", "LoadFailed")
    assert message(found) == "chat-engine on pod llm-1: no room for the KV cache"


def test_an_endpoint_whose_new_pods_wait_for_another_one_says_for_which_and_why() -> None:
    code = resource("code")
    seen = stable(CHAT, code, pods=2, revision="r1")
    failed = {"chat-engine": facts.ModelState("UNAVAILABLE", reason="no room")}
    fresh = pod("llm-3", revision="r1", started=False, ready=False, models=failed)
    files = replace(worlds.files_of(first=[CHAT, code], r1=[CHAT, code]), marks={names.GOOD: ""})
    marked = replace(files, needed={"r1": frozenset({"chat"})})
    found = told(replace(seen, pods=[*seen.pods, fresh], files=marked), "code")
    assert conditions(found)["Ready"] == ("True", "Serving")
    assert conditions(found)["Loaded"] == ("False", "LoadFailed")
    assert message(found, "Loaded").startswith("chat-engine on pod llm-3: no room; no new pod gets ready")
    # Where it is not needed, the pod gets ready without it.
    found = told(replace(seen, pods=[*seen.pods, fresh], files=files), "code")
    assert conditions(found)["Loaded"] == ("False", "Rolling")


def test_an_edited_engine_is_no_skew_before_its_roll_begins() -> None:
    found = told(replace(stable(CHAT), endpoints=[FASTER]))
    assert found["plan"]["action"] == "Roll"
    assert conditions(found)["Loaded"] == ("False", "Loading")


def test_an_attempt_counts_only_for_what_is_still_wanted() -> None:
    seen = replace(stable(CHAT), endpoints=[EDITED])
    failed = facts.Attempt(facts.Trouble("LoadFailed", "no memory"), worlds.NOW)
    wanted = revisions.hashes(endpoint(EDITED))["chat"]
    assert conditions(told(replace(seen, attempts={("llm-1", "chat", wanted): failed})))["Loaded"] == (
        "False",
        "LoadFailed",
    )
    assert conditions(told(replace(seen, attempts={("llm-1", "chat", "v1:old"): failed})))["Loaded"] == (
        "False",
        "Loading",
    )


def test_a_pod_that_refuses_the_secret_is_said_to() -> None:
    seen = stable(CHAT)
    denied = facts.Trouble("ModelControlDenied", "restart the pods")
    found = told(replace(seen, pods=[replace(seen.pods[0], models=None, silent=denied)]))
    assert conditions(found)["Loaded"] == ("False", "ModelControlDenied")


def test_weights_that_can_not_be_had_are_said_in_their_own_words() -> None:
    gated = {"chat": {"reason": "GatedRepo", "message": "org/name is gated; ask for access"}}
    trouble = facts.Trouble("GatedRepo", "chat: org/name is gated; ask for access")
    waiting = pod(started=False, ready=False, models=None, weights=gated, trouble=trouble)
    found = told(replace(stable(vllm()), pods=[waiting]))
    assert conditions(found)["WeightsReady"] == ("False", "GatedRepo")
    assert message(found, "WeightsReady") == "org/name is gated; ask for access"
    assert conditions(found)["Ready"] == ("False", "GatedRepo")


def test_weights_that_are_there_show_their_commit() -> None:
    found = told(stable(vllm(commit=worlds.COMMIT)))
    assert conditions(found)["WeightsReady"] == ("True", "Downloaded")
    assert found["model"] == {"commit": worlds.COMMIT}


def test_a_new_pod_with_another_engine_is_skew_and_rolled_no_second_time() -> None:
    seen = stable(CHAT)
    other = held(CHAT) | {"chat-engine": facts.ModelState(facts.READY, "v2:other", "engine")}
    skewed = replace(seen, pods=[replace(seen.pods[0], models=other)])
    assert not plan.decide(skewed).acts
    assert conditions(told(skewed))["Loaded"] == ("False", "RendererSkew")


def test_a_plan_stays_to_be_seen_after_it_is_done() -> None:
    first = told(replace(stable(CHAT), endpoints=[EDITED]))
    done = told(stable(with_status(EDITED, first)))
    assert conditions(done)["Loaded"] == ("True", "Loaded")
    assert done["plan"] == first["plan"]


def test_a_roll_that_waits_for_weights_says_so() -> None:
    old, new = vllm(commit=worlds.COMMIT), vllm()
    new["spec"] = new["spec"] | {"model": {"repo": "org/other"}}
    found = told(replace(stable(old, shared_weights=True, downloads=True), endpoints=[new]))
    assert conditions(found)["WeightsReady"] == ("False", "WeightsDownloading")
    assert conditions(found)["Ready"] == ("True", "ServingFormerVersion")
    assert found["plan"]["action"] == "Roll"


def news(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event.type, event.reason) for event in events.between(before, after)]


def test_events_tell_of_what_changes_and_of_nothing_else() -> None:
    served = told(stable(CHAT))
    assert news({}, served) == [("Normal", "Accepted"), ("Normal", "Loaded"), ("Normal", "Ready")]
    assert news(served, told(stable(with_status(CHAT, served)))) == []
    editing = told(replace(stable(CHAT), endpoints=[with_status(EDITED, served)]))
    assert news(served, editing) == [("Normal", "InPlace")]
    assert news(editing, told(stable(with_status(EDITED, editing)))) == [("Normal", "Loaded")]
    bad = resource(limits={"maxQueuedRequests": -1})
    refused = told(replace(stable(CHAT), endpoints=[with_status(bad, served)]))
    assert news(served, refused) == [("Warning", "InvalidSpec")]


def test_one_cause_is_one_event() -> None:
    served = told(stable(CHAT))
    broken = told(starting(facts.Trouble("ImagePull", "no such image")))
    assert news(served, broken) == [("Warning", "ImagePull")]


def test_a_status_is_what_the_api_server_takes() -> None:
    for seen in (stable(CHAT), stable(vllm(commit=worlds.COMMIT)), world(CHAT, pool=None), starting()):
        json.dumps(told(seen))
