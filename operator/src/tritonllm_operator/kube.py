"""The only module that talks to the API server: lists, watches, server-side apply.

Objects go as the JSON they are: the client's own classes cost ten times the time and memory, and would drop fields
that they don't know.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client

from tritonllm import api
from tritonllm_operator import metrics, names
from tritonllm_operator.facts import Resource

LOG = logging.getLogger(__name__)

_QUICK = 30.0
_PAGE = "500"
# The server ends a watch after this; that it is there at all is then known again.
_WATCH_SECONDS = 240

ENDPOINTS = (f"/apis/{api.API_VERSION}", "llmendpoints")
DEPLOYMENTS = ("/apis/apps/v1", "deployments")
CONFIG_MAPS = ("/api/v1", "configmaps")
PODS = ("/api/v1", "pods")
JOBS = ("/apis/batch/v1", "jobs")
REPLICA_SETS = ("/apis/apps/v1", "replicasets")
OF_POOLS = (DEPLOYMENTS, CONFIG_MAPS, PODS, JOBS)
"""What has the label of a pool, and matters when it changes."""

Kind = tuple[str, str]
"""Path of an API group's version, and plural name of a resource."""


class Failed(Exception):
    """The API server refused, or did not answer.

    Attributes:
        status: of HTTP; 0 where there was no answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def ending(self) -> bool:
        """Whether the namespace ends: nothing can be made there any more."""
        return self.status == 403 and "being terminated" in str(self)


class Kube:
    """One connection to the API server."""

    def __init__(self, connection: client.ApiClient) -> None:
        self._connection = connection

    async def list(self, kind: Kind, namespace: str = "", selector: str = "") -> list[Resource]:
        """All objects of a kind.

        Args:
            kind: which.
            namespace: where; empty for everywhere.
            selector: of labels.
        """
        return (await self._list(kind, namespace, selector))[0]

    async def watch(
        self, kind: Kind, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[Resource | None]:
        """Objects that change, for ever.

        Args:
            kind: which.
            namespace: where; empty for everywhere.
            selector: of labels.

        Yields:
            Each object that was added, changed or deleted; None whenever some may have been missed.

        Raises:
            Failed: the watch can't be opened, or broke; the caller begins anew.
        """
        _, version = await self._list(kind, namespace, selector, limit="1")
        query = _query(selector, watch="1", resourceVersion=version, timeoutSeconds=str(_WATCH_SECONDS))
        answer = await self._send("GET", _path(kind, namespace), query, seconds=_WATCH_SECONDS + _QUICK)
        try:
            yield None
            async for line in _lines(answer.content):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Failed(event["object"].get("code", 0), event["object"].get("message", ""))
                yield event["object"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Failed(0, f"the watch of {kind[1]} broke: {error}") from None
        finally:
            answer.close()

    async def secret(self, namespace: str, name: str) -> Resource:
        """A Secret."""
        return await self._json("GET", _path(("/api/v1", "secrets"), namespace, name))

    async def apply(self, kind: Kind, namespace: str, name: str, body: Resource) -> Resource:
        """Server-side apply of the fields that are the operator's, whoever else has written them.

        Returns:
            The object as it is now, with the fields of others.
        """
        return await self._apply(_path(kind, namespace, name), body)

    async def merge(self, kind: Kind, namespace: str, name: str, body: Resource) -> None:
        """Changes the named fields of an object, and removes those that are null."""
        await self._json(
            "PATCH", _path(kind, namespace, name), body=body, content_type="application/merge-patch+json"
        )

    async def apply_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Writes an endpoint's status."""
        body = {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        await self._apply(_path(ENDPOINTS, namespace, name) + "/status", body)

    async def create(self, kind: Kind, namespace: str, body: Resource) -> None:
        """Makes an object; one that is there already is left as it is."""
        try:
            await self._json("POST", _path(kind, namespace), body=body)
        except Failed as error:
            if error.status != 409:
                raise

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Deletes an object and what it owns, in the background; one that is gone is as good."""
        try:
            query = [("propagationPolicy", "Background")]
            await self._json("DELETE", _path(kind, namespace, name), query)
        except Failed as error:
            if error.status != 404:
                raise

    async def _apply(self, path: str, body: Resource) -> Resource:
        query = [("fieldManager", names.FIELD_MANAGER), ("force", "true")]
        return await self._json("PATCH", path, query, body, "application/apply-patch+yaml")

    async def _list(
        self, kind: Kind, namespace: str, selector: str, limit: str = _PAGE
    ) -> tuple[list[Resource], str]:
        found: list[Resource] = []
        more = ""
        while True:
            page = await self._json(
                "GET", _path(kind, namespace), _query(selector, limit=limit, **{"continue": more})
            )
            for item in page["items"]:
                # Much text; but a Deployment's say when it was changed.
                if kind != DEPLOYMENTS:
                    item["metadata"].pop("managedFields", None)
                found.append(item)
            more = page["metadata"].get("continue", "")
            if not more or limit != _PAGE:
                return found, page["metadata"]["resourceVersion"]

    async def _json(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Resource | None = None,
        content_type: str = "application/json",
    ) -> Any:
        answer = await self._send(method, path, query, body, content_type)
        try:
            return json.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Failed(0, f"{method} {path}: the answer broke off: {error}") from None

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Resource | None = None,
        content_type: str = "application/json",
        seconds: float = _QUICK,
    ) -> aiohttp.ClientResponse:
        metrics.REQUESTS.labels(method).inc()
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            # The token may have been renewed, so it is put in anew each time.
            _, url, headers, sent, _ = await self._connection.param_serialize(
                method,
                path,
                query_params=query,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._connection.call_api(method, url, headers, sent, _request_timeout=seconds)
            if answer.status < 300:
                return answer.response
            text = (await answer.read()).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Failed(0, f"the API server does not answer: {error or type(error).__name__}") from None
        raise Failed(answer.status, f"{method} {path}: {_message(text)}")


async def watch_for_ever(
    kube: Kube, kind: Kind, namespace: str, selector: str, seen: Any, lost: Any, pause: float = 1.0
) -> None:
    """Watches, and begins anew whenever a watch ends.

    Args:
        kube: the connection.
        kind: which objects.
        namespace: where; empty for everywhere.
        selector: of labels.
        seen: called with each object that changed.
        lost: called when some may have been missed.
        pause: seconds before the next try after a failure.
    """
    failing = False
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    while True:
        try:
            async for resource in kube.watch(kind, namespace, selector):
                if failing:
                    LOG.info("%s %s are watched again", kind[1], where)
                    failing = False
                seen(resource) if resource is not None else lost()
        except Failed as error:
            metrics.WATCH_FAILURES.labels(kind[1]).inc()
            if not failing:
                LOG.warning("%s %s can't be watched, which is tried again: %s", kind[1], where, error)
            failing = True
            await asyncio.sleep(pause)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; `readline` has a limit that a pool's ConfigMap may exceed."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    group, plural = kind
    scope = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{group}{scope}/{plural}" + (f"/{quote(name)}" if name else "")


def _query(selector: str, **more: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in {"labelSelector": selector, **more}.items() if value]


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300]
