"""What an LLMEndpoint's status says. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tritonllm_operator import adapters, benchmarks, conditions, objects, plan, revisions
from tritonllm_operator.decisions import Decision
from tritonllm_operator.facts import World

Status = dict[str, Any]
"""`status` as the API server has it."""


def build(world: World, decided: plan.Plan, name: str) -> Status:
    """The status of one endpoint, which is among those judged: the same as before where nothing has changed."""
    judged = next(item for item in decided.judged if item.name == name)
    metadata, before = judged.resource["metadata"], judged.resource.get("status") or {}
    status: Status = {"observedGeneration": metadata.get("generation", 1)}
    accepted_hash = before.get("policyHash")
    endpoint = decided.wanted.get(name)
    loaded = [pod for pod in world.pods if endpoint is not None and revisions.holds(pod, endpoint)]
    if endpoint is not None and not endpoint.is_classifier:
        if judged.endpoint is not None and not judged.rehearsal:
            accepted_hash = revisions.policy_hash(endpoint)
        observed = {pod.name: state.spec_hash for pod in world.pods if (state := pod.model(name)).ready}
        # Server-side apply makes null of a map that becomes empty, and refuses it.
        if observed:
            status["observedPolicyHash"] = observed
    if accepted_hash:
        status["policyHash"] = accepted_hash
    if endpoint is not None and world.pool is not None:
        wanted = world.pool.replicas
        status["pods"] = {"desired": wanted, "loaded": len(loaded), "summary": f"{len(loaded)}/{wanted}"}
        path = "v1" if world.pool.gateway else f"v2/models/{name}"
        status["url"] = f"http://{world.name}.{world.namespace}:{world.pool.service_port}/{path}"
        if endpoint.commit is not None:
            status["model"] = {"commit": endpoint.commit}
        if endpoint.spec.adapters:
            status["adapters"] = [
                adapters.described(endpoint, adapter, loaded, world) for adapter in endpoint.spec.adapters
            ]
    if benchmark := benchmarks.described(world, decided.benchmark, judged, decided.wanted):
        status["benchmark"] = benchmark
    since = {
        (item["type"], item["status"]): item.get("lastTransitionTime")
        for item in before.get("conditions", ())
    }
    status["conditions"] = [
        {
            "type": kind,
            "status": str(found.met),
            "reason": found.reason,
            "message": found.message,
            "observedGeneration": status["observedGeneration"],
            "lastTransitionTime": since.get((kind, str(found.met))) or objects.text(world.now),
        }
        for kind, found in conditions.of(world, decided, judged, loaded).items()
    ]
    shown = decided.decisions[name]
    # "Nothing to do" is no news: what was done last stays to be seen.
    done = before.get("plan", {}).get("action") in ("InPlace", "Roll")
    plan_of_now = {**asdict(shown), "models": [*shown.models]}
    status["plan"] = before["plan"] if shown == Decision() and done else plan_of_now
    return status
