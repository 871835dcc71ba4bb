"""What kopf watches: an event of an endpoint, or of an object with a pool's label, marks that pool, and nothing else."""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes.aio import client, config

from tritonllm_operator import kube, names

registry = kopf.OperatorRegistry()


class _NoDiffs(kopf.DiffBaseStorage):
    """No former version of any object: kopf would copy each object of each event to compare it with that."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        pass

    def store(self, **_: Any) -> None:
        pass


@kopf.on.startup(registry=registry)
def configure(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Sets kopf to watch only: it writes nothing, and keeps nothing for later."""
    # Who may look into some namespaces only may neither list them nor the kinds of resources there are.
    settings.scanning.disabled = not memo.clusterwide
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = _NoDiffs()
    # A burst is one look anyway: the pool's worker sees to that.
    settings.queueing.idle_timeout = 0.1
    settings.watching.chunk_size = kube.PAGE
    # A watch that is refused: other namespaces are watched meanwhile, and after ten minutes the pod restarts.
    settings.networking.error_backoffs = [1, 2, 5, *[10] * 60]
    # The server ends a watch after this; that it is there at all is then known again.
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    for kind in kube.OF_POOLS:
        settings.watching.label_selectors[kind] = names.POOL


@kopf.on.cleanup(registry=registry)
async def stop(memo: Any, **_: Any) -> None:
    """Ends what runs beside kopf, which would wait for it, and then call it hung."""
    await memo.workers.stop()


@kopf.on.login(registry=registry)
async def login(memo: Any, **_: Any) -> kopf.ConnectionInfo:
    """As whom to watch: as the one who asks. kopf calls this again when its token is no longer accepted."""
    known: client.Configuration = memo.login
    await config.load_config(client_configuration=known)
    # "Bearer …" or "Basic …"; without either, a client certificate says who it is.
    scheme, token = known.api_key.get("BearerToken", " ").split(" ", 1)
    return kopf.ConnectionInfo(
        server=known.host,
        ca_path=known.ssl_ca_cert,
        insecure=not known.verify_ssl,
        certificate_path=known.cert_file,
        private_key_path=known.key_file,
        proxy_url=known.proxy,
        scheme=scheme or None,
        token=token or None,
    )


# Asynchronous, as kopf calls other handlers in threads, and workers are not for those.
@kopf.on.event(*kube.ENDPOINTS, registry=registry)
async def endpoint(body: kopf.Body, type: str | None, memo: Any, **_: Any) -> None:
    """An endpoint changed, came or went."""
    memo.workers.endpoint(dict(body), gone=type == "DELETED")


async def part(body: kopf.Body, type: str | None, memo: Any, **_: Any) -> None:
    """Something of a pool changed, came or went: a pod, its Deployment, its ConfigMap, a Job."""
    memo.workers.part(dict(body), gone=type == "DELETED")


for kind in kube.OF_POOLS:
    kopf.on.event(*kind, registry=registry)(part)
