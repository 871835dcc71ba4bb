"""Lists of phrases come from ConfigMaps whose owner says so, and a list that can't be used changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tritonllm_operator import facts, kube, names, objects, plan, snapshots, status, workers
from worlds import actions, resource, stable, steps

REF = {"name": "words", "key": "list.txt"}
LISTED = resource(
    guardrails={"output": [{"name": "words", "action": "Mask", "banned": {"configMapRef": REF}}]}
)


def config_map(text: str = "forbidden", name: str = "words", **labels: str) -> dict[str, Any]:
    marks = {names.POOL: "llm", names.COMPONENT: names.PHRASES} | {
        {"pool": names.POOL, "component": names.COMPONENT}[label]: value for label, value in labels.items()
    }
    metadata = {"name": name, "namespace": "prod", "uid": f"uid-{name}", "labels": marks}
    return {"kind": "ConfigMap", "metadata": metadata, "data": {"list.txt": text}}


def seen(**config_maps: Any) -> facts.World:
    """A pool that serves a list with the one phrase `forbidden`, now with these ConfigMaps."""
    return replace(stable(resource()), endpoints=[LISTED], config_maps=config_maps)


def test_a_list_that_says_what_pods_hold_changes_nothing() -> None:
    found = plan.decide(seen(words=config_map()))
    assert actions(found) == {"chat": "None"}
    assert not found.acts


def test_another_list_is_loaded_in_place_and_written_for_pods_to_come() -> None:
    found = plan.decide(seen(words=config_map("other\nwords")))
    assert steps(found) == {("load", "llm-1", "chat"), ("load", "llm-1", "chat-guardrail")}
    assert found.data is not None
    assert '"phrases":["other","words"]' in found.data[names.key("")]
    assert "configMapRef" not in found.data[names.key("")]


@pytest.mark.parametrize(
    ("config_maps", "said"),
    [
        ({}, "there is no ConfigMap `words`"),
        ({"words": config_map("# nothing")}, "has no phrase"),
        ({"words": config_map("hidden" * 50)}, "line 1"),
        ({"words": {**config_map(), "data": None}}, "there is no key `list.txt` of ConfigMap `words`"),
    ],
    ids=["missing", "empty", "long", "no-data"],
)
def test_a_list_that_cant_be_used_leaves_the_last_accepted_one(
    config_maps: dict[str, Any], said: str
) -> None:
    world = seen(**config_maps)
    found = plan.decide(world)
    assert not found.acts
    assert actions(found) == {"chat": "Reject"}
    accepted, *_, ready = status.build(world, found, "chat")["conditions"]
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidPhraseList")
    assert accepted["message"].startswith("spec.guardrails.output[0].banned.configMapRef: ")
    assert said in accepted["message"]
    assert "hidden" not in accepted["message"]
    assert ready["reason"] == "ServingFormerVersion"


class Lists(kube.Kube):
    """An API server with some ConfigMaps."""

    def __init__(self, *config_maps: dict[str, Any]) -> None:
        self.config_maps = config_maps

    async def list(self, kind: kube.Kind, namespace: str = "", selector: str = "") -> list[objects.Resource]:
        return list(self.config_maps) if kind == kube.CONFIG_MAPS else []


@pytest.mark.parametrize(
    ("labels", "usable"),
    [({}, True), ({"pool": ""}, True), ({"pool": "other"}, False), ({"component": "server"}, False)],
)
def test_only_a_list_for_this_pool_or_for_all_can_be_named(labels: dict[str, str], usable: bool) -> None:
    found = asyncio.run(snapshots.Snapshots(Lists(config_map(**labels))).get("prod", 0))
    assert ("words" in found.of("llm").phrase_lists) == usable


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> tuple[workers.Workers, list[tuple[str, str]]]:
    """Workers that only note what is marked."""
    found: list[tuple[str, str]] = []
    made = workers.Workers(Lists(), 60)
    monkeypatch.setattr(made, "mark", found.append)
    return made, found


def heard(name: str, pool: str, namespace: str = "prod", listed: str = "words") -> dict[str, Any]:
    found = resource(
        name,
        pool=pool,
        guardrails={"input": [{"name": "a", "banned": {"configMapRef": {**REF, "name": listed}}}]},
    )
    return {**found, "metadata": {**found["metadata"], "namespace": namespace}}


def test_a_list_marks_exactly_the_pools_whose_endpoints_name_it(
    marked: tuple[workers.Workers, list[tuple[str, str]]],
) -> None:
    made, found = marked
    made.endpoint(heard("one", "first"), gone=False)
    made.endpoint(heard("two", "second"), gone=False)
    made.endpoint(heard("other", "third", listed="else"), gone=False)
    made.endpoint(heard("far", "fourth", namespace="far"), gone=False)
    made.endpoint(resource("plain", pool="fifth"), gone=False)
    found.clear()
    made.part(config_map(pool=""), gone=False)
    assert sorted(found) == [("prod", "first"), ("prod", "second")]
    found.clear()
    # Its owner takes it back.
    made.part(config_map(component="other"), gone=False)
    assert sorted(found) == [("prod", "first"), ("prod", "second")]
    made.endpoint(heard("one", "first"), gone=True)
    found.clear()
    made.part(config_map(), gone=True)
    assert found == [("prod", "second")]
