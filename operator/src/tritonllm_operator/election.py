"""Of several operators only the one that holds the Lease acts. One that can't renew it in time ends.

The election is that of the Kubernetes client. It retries where the API server refuses; the lock here makes it retry, too,
where the server does not answer, and gives the Lease back at the end, so that the next operator need not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.resourcelock import leaselock

LOG = logging.getLogger(__name__)

# A leader that cannot renew the Lease exits before it expires: at the latest one request and one retry after the renew deadline.
_LEASE_SECONDS, _RENEW_SECONDS, _RETRY_SECONDS, _REQUEST_SECONDS = 20, 10, 2, 5.0

_SILENCE = (aiohttp.ClientError, OSError, TimeoutError)


class Lost(Exception):
    """Another operator may lead."""


async def leading(
    connection: client.ApiClient, lease: tuple[str, str], identity: str, act: Callable[[], Awaitable[None]]
) -> None:
    """Waits until this operator leads, and acts as long as it does.

    Args:
        connection: to the API server.
        lease: namespace and name.
        identity: of this operator: that of its pod, so that a restarted container leads again at once.
        act: what to do; it is cancelled when the Lease is lost.

    Raises:
        Lost: the Lease could not be renewed.
    """
    namespace, name = lease
    lock = _Lock(name, namespace, identity, connection)
    LOG.info("waits for the Lease %s/%s", namespace, name)
    held = leaderelection.LeaderElection(
        electionconfig.Config(lock, _LEASE_SECONDS, _RENEW_SECONDS, _RETRY_SECONDS, _nothing, _nothing)
    )
    await held.acquire()
    lock.held = True
    LOG.info("leads, as %s", identity)
    tasks = asyncio.ensure_future(act()), asyncio.create_task(held.renew_loop())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            tasks[1].result()
            raise Lost(f"the Lease {namespace}/{name} could not be renewed for {_RENEW_SECONDS:.0f} s")
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await lock.release()


class _Lock(leaselock.LeaseLock):
    held = False

    async def get(self, name: str, namespace: str) -> Any:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                found, record = await super().get(name, namespace)
        except _SILENCE as error:
            return False, ApiException(status=0, reason=f"the API server does not answer: {error!r}")
        if self.held and (holder := getattr(record, "holder_identity", self.identity)) != self.identity:
            # This process stood still for too long. The client would try to get the Lease back, and act meanwhile.
            raise Lost(f"the Lease {namespace}/{name} is held by {holder or 'no process'}")
        return found, record

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # workaround: W30. The client's own asks with an argument that it then refuses itself.
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record)
        )
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, *_SILENCE) as error:
            # Its text has the headers of the answer, too.
            why = error.reason if isinstance(error, ApiException) else repr(error)
            LOG.warning("the Lease %s/%s can't be created, which is tried again: %s", namespace, name, why)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await super().update(name, namespace, updated_record)
        except _SILENCE:
            return False

    async def release(self) -> None:
        """Gives the Lease back, if it is still this operator's."""
        self.held = False
        _, record = await self.get(self.name, self.namespace)
        if getattr(record, "holder_identity", None) != self.identity:
            return
        lease = self.lease_reference
        assert lease is not None
        assert lease.spec is not None
        lease.spec.holder_identity = None
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except (ApiException, *_SILENCE) as error:
            LOG.warning("the Lease %s/%s is not given back: %s", self.namespace, self.name, error)


async def _nothing() -> None:
    """What the client's own way to run a leader would call."""
