"""LoRA adapters: which commits they are at, which have to be downloaded beside running pods, and how they are. Pure.

A change of adapters is a change of the pipeline, in place. Their files come by the same Job that brings weights ahead of
a roll; the engine of each pod waits for them, and loads them when they are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tritonllm import api
from tritonllm_operator.facts import Pod, Reports, World
from tritonllm_operator.pools import Pool

FINAL = ("Ready", "Refused")
"""The states that do not change by themselves."""

# The worst of several pods is what counts.
_STATES = ("Refused", "Missing", "Updating", "Loading", "Ready")


def source(adapter: api.Adapter) -> str:
    """What a download calls the source of an adapter; see `tritonllm.weights.report`."""
    return f"{adapter.repo}@{adapter.revision}"


def with_commits(new: api.LLMEndpoint, known: api.LLMEndpoint | None) -> api.LLMEndpoint:
    """The endpoint with the commits that are known for its adapters, from the same or an earlier version of it."""
    if known is None or known.resolved is None:
        return new
    before = {each.name: source(each) for each in known.spec.adapters}
    commits = {
        each.name: known.resolved.adapters[each.name]
        for each in new.spec.adapters
        if each.name in known.resolved.adapters
        and before.get(each.name) == source(each)
        and (new.resolved is None or each.name not in new.resolved.adapters)
    }
    return new.with_adapters_at(commits) if commits else new


def reported(endpoint: api.LLMEndpoint, reports: Iterable[Reports]) -> api.LLMEndpoint:
    """The endpoint with the commits that downloads have told."""
    commits: dict[str, str] = {}
    for report in reports:
        for adapter in endpoint.spec.adapters:
            told = report.get(f"{endpoint.name}:{adapter.name}", {})
            if "commit" in told and told.get("source") == source(adapter):
                commits[adapter.name] = told["commit"]
    known = endpoint.resolved.adapters if endpoint.resolved else {}
    new = {name: commit for name, commit in commits.items() if name not in known}
    return endpoint.with_adapters_at(new) if new else endpoint


def download(
    world: World, pool: Pool, revision: str, wanted: Iterable[api.LLMEndpoint]
) -> tuple[str | None, tuple[str, ...]]:
    """Whether adapters have to be downloaded beside pods that run.

    Where the volume can't be mounted beside the running pods, the next pods bring them.

    Returns:
        The revision to start a Job for, and those whose Jobs are of no use any more, as in `rolls.Aim`.
    """
    missing = {
        source(adapter)
        for endpoint in wanted
        for adapter in endpoint.spec.adapters
        if adapter.repo is not None
        and (endpoint.resolved is None or adapter.name not in endpoint.resolved.adapters)
    }
    if not (missing and pool.downloads_ahead and any(pod.started for pod in world.pods)):
        return None, ()
    job = world.job(revision)
    if job is None:
        return revision, ()
    if job.succeeded is None:
        return None, ()
    tried = {told.get("source") for told in job.weights.values()}
    return None, (revision,) if job.can_be_retried(world.now) or not missing <= tried else ()


def described(
    endpoint: api.LLMEndpoint, adapter: api.Adapter, loaded: Sequence[Pod], world: World
) -> dict[str, Any]:
    """How an adapter of an endpoint is, for its status, with the pods that have its pipeline as it is wanted."""
    state, message = "Loading", "" if loaded else "no pod has the present version of the endpoint"
    seen = [
        (pod.name, each)
        for pod in loaded
        for each in pod.model(endpoint.name).adapters
        if each["name"] == adapter.name
    ]
    if seen:
        name, worst = min(seen, key=lambda each: _STATES.index(each[1]["state"]))
        state, message = worst["state"], f"pod {name}: {worst['message']}" if worst["message"] else ""
    if state in ("Missing", "Updating"):
        for job in world.jobs:
            if job.trouble:
                message = f"{job.trouble.reason}: {job.trouble.message}"
        # What a download says itself is nearer to the cause.
        for download in (*world.jobs, *world.pods):
            told = download.weights.get(f"{endpoint.name}:{adapter.name}", {})
            if "reason" in told and told.get("source") == source(adapter):
                message = f"{told['reason']}: {told.get('message', '')}"
    commit = endpoint.adapter_commit(adapter)
    found = {"name": adapter.name, "state": state, "message": message}
    return found | ({"commit": commit} if commit else {})
