"""Says how the endpoints of a pool stand: their statuses where these changed, Events, metrics."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter

from tritonllm_operator import adapters, bodies, events, kube, metrics, plan, status
from tritonllm_operator.facts import World
from tritonllm_operator.objects import Resource


async def tell(api: kube.Kube, world: World, decided: plan.Plan) -> bool:
    """Writes what changed, and says whether nothing is under way; the plan in a status comes before its execution.

    Raises:
        kube.Failed: the API server does not answer, or refuses.
    """
    settled = True
    ready: Counter[bool] = Counter()
    changed: list[tuple[Resource, status.Status]] = []
    for judged in decided.judged:
        found = status.build(world, decided, judged.name)
        conditions = {item["type"]: item["status"] == "True" for item in found["conditions"]}
        ready[conditions["Ready"]] += 1
        settled &= conditions["Loaded"] or not conditions["Accepted"]
        # An engine loads an adapter when its files come, without an event.
        settled &= all(each["state"] in adapters.FINAL for each in found.get("adapters", ()))
        if found != judged.resource.get("status"):
            changed.append((judged.resource, found))
    for answer in (True, False):
        metrics.ENDPOINTS.labels(world.namespace, world.name, str(answer).lower()).set(ready[answer])
    await asyncio.gather(*(_write(api, resource, found, world.now) for resource, found in changed))
    return settled


async def _write(api: kube.Kube, resource: Resource, found: status.Status, now: datetime.datetime) -> None:
    namespace, name = resource["metadata"]["namespace"], resource["metadata"]["name"]
    try:
        await api.apply_status(namespace, name, found)
        for told in events.between(resource.get("status") or {}, found):
            await api.create(kube.EVENTS, namespace, bodies.event(resource, told, now))
    except kube.Failed as error:
        # An endpoint deleted meanwhile, or a namespace that ends: no status is left to write.
        if error.status != 404 and not error.ending:
            raise
