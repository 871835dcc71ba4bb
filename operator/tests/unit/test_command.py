"""`tritonllm plan` decides as the operator would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import worlds
from tritonllm import files
from tritonllm_operator import command, names, revisions, snapshots
from tritonllm_operator.decisions import Decision
from worlds import endpoint, resource

CHAT = resource()


def deployment(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "llm",
            "uid": "uid-llm",
            "generation": 1,
            "creationTimestamp": worlds.LONG_AGO,
            "annotations": {names.OPERATOR: "true", names.DRAIN_SECONDS: "300", **annotations},
        },
        "spec": {"replicas": 2, "template": {"metadata": {}, "spec": {"containers": []}}},
    }


def config_map(*items: dict[str, Any]) -> dict[str, Any]:
    text = revisions.text([endpoint(item) for item in items])
    return {"metadata": {"name": "llm-endpoints"}, "data": {names.key(""): text}}


def decision(wanted: dict[str, Any], **more: Any) -> Decision:
    seen = replace(snapshots.Parts([CHAT], deployment(), config_map(CHAT)), **more)
    read, _ = files.resource(wanted, deep=False)
    assert read is not None
    ((name, found),) = command.decide(seen, "prod", "llm", [read])
    assert name == "chat"
    return found


FASTER = resource(engine={"type": "simulated", "args": {"inter_token_seconds": 0.5}})


@pytest.mark.parametrize(
    ("wanted", "action", "said"),
    [
        (CHAT, "None", "chat: nothing to do"),
        (
            resource(phrases=["other"]),
            "InPlace",
            "chat: changed in place, no pod is replaced: chat, chat-guardrail",
        ),
        (FASTER, "Roll", "chat: pods are replaced (its engine is changed)"),
        (resource(limits={"requestTimeoutSeconds": 900}), "Reject", "chat: refused (spec.limits."),
    ],
)
def test_an_edit_is_told_by_what_it_would_do(wanted: dict[str, Any], action: str, said: str) -> None:
    found = decision(wanted)
    assert found.action == action
    assert command.line("chat", found).startswith(said)


def test_a_new_endpoint_for_a_pool_that_serves_others_needs_new_pods() -> None:
    found = decision(CHAT, endpoints=[], config_map=config_map())
    assert (found.action, found.message) == ("Roll", "its engine is new")


def test_without_a_pool_it_would_be_refused() -> None:
    assert "there is no pool llm" in decision(CHAT, deployment=None).message


def test_a_list_of_phrases_is_the_clusters() -> None:
    banned = {"configMapRef": {"name": "words", "key": "list.txt"}}
    rules = [{"name": "words", "action": "Mask", "banned": banned}]
    wanted = resource(guardrails={"output": rules})
    there = {"metadata": {"name": "words"}, "data": {"list.txt": "forbidden"}}
    assert decision(wanted, phrase_lists={"words": there}).action == "None"
    assert decision(wanted).action == "Reject"
