"""`tritonllm plan`: what the operator would do about an endpoint, asked before it is applied."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tritonllm import api
    from tritonllm_operator import snapshots
    from tritonllm_operator.decisions import Decision
    from tritonllm_operator.objects import Resource

FAILED, MISTAKE = 1, 2


def plan(
    files: Annotated[
        list[Path], typer.Option("--filename", "-f", metavar="ENDPOINT.yaml", help="Files with LLMEndpoints.")
    ],
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            help="Of the pool.",
            show_default="the file's, or that of the kubeconfig's context",
        ),
    ] = "",
    context: Annotated[str, typer.Option(help="Of the kubeconfig.", show_default="the current one")] = "",
) -> None:
    """Show what the operator would do about endpoints, without applying them.

        tritonllm plan -f chat.yaml

    Asks the cluster of your kubeconfig, and changes nothing. Exit code 2: an endpoint would be refused.
    """
    from kubernetes.aio import config

    from tritonllm import files as reading
    from tritonllm_operator import kube

    # What the engine's arguments may be is the pool's to say, and what lists of phrases have, the cluster's ConfigMaps.
    wanted = reading.load(files, deep=False, keep_references=True)
    try:
        decisions = asyncio.run(_ask(wanted, namespace, context or None))
    except config.ConfigException as error:
        message = f"the kubeconfig can't be used: {error}; name one by KUBECONFIG, or one of its contexts by --context"
        typer.echo(f"tritonllm: {message}", err=True)
        raise typer.Exit(FAILED) from None
    except kube.Failed as error:
        typer.echo(f"tritonllm: {error}", err=True)
        raise typer.Exit(FAILED) from None
    for name, decision in decisions:
        typer.echo(line(name, decision))
    if any(decision.action == "Reject" for _, decision in decisions):
        raise typer.Exit(MISTAKE)


def line(name: str, decision: Decision) -> str:
    """One decision for people."""
    what = {
        "None": "nothing to do",
        "InPlace": f"changed in place, no pod is replaced: {', '.join(decision.models)}",
        "Roll": "pods are replaced" + (", and no pod serves meanwhile" if decision.disruptive else ""),
        "Reject": "refused",
    }[decision.action]
    return f"{name}: {what}" + (f" ({decision.message})" if decision.message else "")


async def _ask(
    wanted: Sequence[api.LLMEndpoint], namespace: str, context: str | None
) -> list[tuple[str, Decision]]:
    from kubernetes.aio import client, config

    from tritonllm_operator import kube, snapshots

    await config.load_kube_config(context=context)
    _, active = config.list_kube_config_contexts()
    usual = (active or {}).get("context", {}).get("namespace") or "default"
    pools: defaultdict[tuple[str, str], list[api.LLMEndpoint]] = defaultdict(list)
    for endpoint in wanted:
        where = namespace or endpoint.metadata.namespace or usual
        pools[where, endpoint.spec.pool].append(endpoint)
    async with client.ApiClient() as connection:
        lists = snapshots.Snapshots(kube.Kube(connection))
        now = time.monotonic()
        found = [
            decide((await lists.get(where, now)).of(pool), where, pool, endpoints)
            for (where, pool), endpoints in pools.items()
        ]
    return [pair for pairs in found for pair in pairs]


def decide(
    seen: snapshots.Parts, namespace: str, pool: str, wanted: Sequence[api.LLMEndpoint]
) -> list[tuple[str, Decision]]:
    """The decisions about some endpoints as if they were applied to a pool; pure."""
    from tritonllm_operator import plan as plans

    now = datetime.datetime.now(datetime.UTC)
    there = {item["metadata"]["name"]: item for item in seen.endpoints}
    for endpoint in wanted:
        there[endpoint.name] = _applied(there.get(endpoint.name), endpoint, now)
    world = replace(seen.world(namespace, pool, now), endpoints=list(there.values()))
    decisions = plans.decide(world).decisions
    return [(endpoint.name, decisions[endpoint.name]) for endpoint in wanted]


def _applied(before: Resource | None, endpoint: api.LLMEndpoint, now: datetime.datetime) -> Resource:
    from tritonllm_operator import objects, revisions

    metadata = {"name": endpoint.name, "creationTimestamp": objects.text(now)}
    # A rehearsal's annotation would only add that nothing is done.
    kept = {key: value for key, value in (before or {}).get("metadata", {}).items() if key != "annotations"}
    return {**revisions.resource(endpoint), "metadata": metadata | kept}
