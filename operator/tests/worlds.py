"""Pools as tests describe them: what was seen of one, in a line."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tritonllm import allow, api, files
from tritonllm_operator import facts, names, plan, pools, revisions

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LONG_AGO = "2026-01-01T00:00:00Z"
REPO = {"repo": "org/name"}
COMMIT = "0123456789" * 4


def resource(name: str = "chat", *, phrases: Sequence[str] = ("forbidden",), **spec: Any) -> dict[str, Any]:
    """An LLMEndpoint as the API server has it: simulated, with one banned phrase, unless told otherwise."""
    rules = [{"name": "words", "action": "Mask", "banned": {"phrases": list(phrases)}}]
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "metadata": {
            "name": name,
            "namespace": "prod",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": LONG_AGO,
        },
        "spec": {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {"output": rules}} | spec,
    }


def vllm(name: str = "chat", *, commit: str = "", **args: Any) -> dict[str, Any]:
    """An LLMEndpoint with weights of the Hub; with a commit, as the ConfigMap has it."""
    found = resource(name, model=REPO, engine={"type": "vllm", "args": args})
    return found | ({"resolved": {"commit": commit}} if commit else {})


def endpoint(data: Mapping[str, Any]) -> api.LLMEndpoint:
    """The same, validated."""
    found, problems = files.resource(data)
    assert found is not None, problems
    return found


def files_of(**of_revision: Sequence[Mapping[str, Any]]) -> pools.Files:
    """A ConfigMap; `first` stands for the first revision."""
    texts = {
        "" if name == "first" else name: revisions.text([endpoint(item) for item in items])
        for name, items in of_revision.items()
    }
    return pools.Files({name: json.loads(text)["items"] for name, text in texts.items()})


def held(*endpoints: Mapping[str, Any]) -> dict[str, facts.ModelState]:
    """What a pod's Triton tells when all is loaded."""
    kinds = {True: ("classifier",), False: ("engine", "guardrail", "pipeline")}
    return {
        model: facts.ModelState(facts.READY, digest, kind)
        for each in map(endpoint, endpoints)
        for (model, digest), kind in zip(
            revisions.hashes(each).items(), kinds[each.is_classifier], strict=True
        )
    }


def pod(name: str = "llm-1", *endpoints: Mapping[str, Any], **more: Any) -> facts.Pod:
    """A pod that serves these endpoints."""
    running = facts.Pod(
        name, address="127.0.0.1", running=True, started=True, ready=True, models=held(*endpoints)
    )
    return replace(running, **more)


POOL = pools.Pool(
    uid="uid-llm",
    changed=NOW - datetime.timedelta(days=1),
    managed=True,
    vllm_version="0.24.0",
    drain_seconds=300,
    updated=1,
    available=1,
    current=1,
    allow=allow.EVERYTHING,
)


def world(*endpoints: Mapping[str, Any], **more: Any) -> facts.World:
    """A pool and its endpoints; at first it has no files and no pods."""
    found = facts.World("prod", "llm", NOW, endpoints=copy.deepcopy(endpoints), pool=POOL)
    return replace(found, **more)


def stable(*endpoints: Mapping[str, Any], pods: int = 1, **pool: Any) -> facts.World:
    """A pool that is as its endpoints want it."""
    plain = [{key: value for key, value in item.items() if key != "resolved"} for item in endpoints]
    numbers = {"replicas": pods, "updated": pods, "available": pods, "current": pods}
    return world(
        *plain,
        pool=replace(POOL, **(numbers | pool)),
        files=replace(files_of(first=endpoints), marks={names.GOOD: ""}),
        pods=[pod(f"llm-{number}", *endpoints) for number in range(1, pods + 1)],
    )


def actions(decided: plan.Plan) -> dict[str, str]:
    """What happens to each endpoint."""
    return {name: decision.action for name, decision in decided.decisions.items()}


def steps(decided: plan.Plan) -> set[tuple[str, str, str]]:
    """What happens on pods: load or unload, pod, model."""
    return {(type(step).__name__.lower(), step.pod, step.model) for step in decided.steps}
