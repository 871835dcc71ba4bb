"""What kopf is told: an event of an endpoint marks its pool dirty, and nothing else."""

from __future__ import annotations

from typing import Any

import kopf

from tritonllm import api

registry = kopf.OperatorRegistry()
_GROUP, _VERSION = api.API_VERSION.split("/")


@kopf.on.startup(registry=registry)
def configure(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Sets kopf to watch only: it writes nothing, and keeps nothing for later."""
    # Who may look into some namespaces only may neither list them nor the kinds of resources there are.
    settings.scanning.disabled = not memo.clusterwide
    settings.posting.enabled = False
    settings.peering.standalone = True
    # A burst is one look anyway: the pool's worker sees to that.
    settings.queueing.idle_timeout = 0.1
    # The server ends a watch after this; that it is there at all is then known again.
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300


@kopf.on.cleanup(registry=registry)
async def stop(memo: Any, **_: Any) -> None:
    """Ends what runs beside kopf, which would wait for it, and then call it hung."""
    await memo.workers.stop()


@kopf.on.login(registry=registry)
def login(**arguments: Any) -> kopf.ConnectionInfo | None:
    """As whom to watch: a pod's ServiceAccount, or the kubeconfig's user."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


@kopf.on.event(_GROUP, _VERSION, "llmendpoints", registry=registry)
async def endpoint(body: kopf.Body, memo: Any, **_: Any) -> None:
    """An endpoint changed, came or went. Asynchronous, as kopf calls others in threads, and workers are not for those."""
    memo.workers.endpoint(dict(body))
