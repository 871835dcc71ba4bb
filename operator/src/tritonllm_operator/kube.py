"""The only module that asks the API server: lists, server-side apply. What changes there is watched by kopf (`handlers`).

Objects go as the JSON they are: the client's own classes cost ten times the time and memory, and would drop fields
that they don't know.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client, config

from tritonllm import api
from tritonllm_operator import metrics, names
from tritonllm_operator.objects import Resource

_TIMEOUT_SECONDS = 30.0
PAGE = 500
"""Objects in one answer of the API server."""

Kind = tuple[str, str, str]
"""API group, version, and plural name of a resource."""

_GROUP, _VERSION = api.API_VERSION.split("/")
ENDPOINTS: Kind = (_GROUP, _VERSION, "llmendpoints")
DEPLOYMENTS: Kind = ("apps", "v1", "deployments")
CONFIG_MAPS: Kind = ("", "v1", "configmaps")
PODS: Kind = ("", "v1", "pods")
JOBS: Kind = ("batch", "v1", "jobs")
REPLICA_SETS: Kind = ("apps", "v1", "replicasets")
SECRETS: Kind = ("", "v1", "secrets")
EVENTS: Kind = ("", "v1", "events")
OF_POOLS = (DEPLOYMENTS, CONFIG_MAPS, PODS, JOBS)
"""What has the label of a pool, and matters when it changes."""


class Failed(Exception):
    """The API server refused, or did not answer.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        ending: whether the namespace ends: nothing can be made there any more.
        retry_seconds: how long the API server asks to wait.
    """

    def __init__(
        self, status: int, message: str, *, ending: bool = False, retry_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.ending = ending
        self.retry_seconds = retry_seconds


class Kube:
    """One connection to the API server."""

    def __init__(self, connection: client.ApiClient) -> None:
        self._connection = connection

    async def list(self, kind: Kind, namespace: str = "", selector: str = "") -> list[Resource]:
        """All objects of a kind with these labels, of a namespace or of all."""
        found: list[Resource] = []
        more = ""
        while True:
            query = {"labelSelector": selector, "limit": str(PAGE), "continue": more}
            given = [pair for pair in query.items() if pair[1]]
            page = await self._json("GET", _path(kind, namespace), given)
            for item in page["items"]:
                # Long, and not used here.
                item["metadata"].pop("managedFields", None)
            found += page["items"]
            more = page["metadata"].get("continue", "")
            if not more:
                return found

    async def secret(self, namespace: str, name: str) -> Resource:
        """A Secret."""
        return await self._json("GET", _path(SECRETS, namespace, name))

    async def apply(
        self, kind: Kind, namespace: str, name: str, body: Resource, subresource: str = ""
    ) -> Resource:
        """Server-side apply of the fields that are the operator's, no matter who has written them before.

        Returns:
            The object as it is now, with the fields of others.
        """
        query = [("fieldManager", names.FIELD_MANAGER), ("force", "true")]
        path = _path(kind, namespace, name) + subresource
        return await self._json("PATCH", path, query, body, "application/apply-patch+yaml")

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
        await self.apply(ENDPOINTS, namespace, name, body, "/status")

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

    async def _json(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Resource | None = None,
        content_type: str = "application/json",
    ) -> Any:
        metrics.REQUESTS.labels(method).inc()
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            # The token may have been renewed, so it is set each time.
            _, url, headers, sent, _ = await self._connection.param_serialize(
                method,
                path,
                query_params=query,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._connection.call_api(
                method, url, headers, sent, _request_timeout=_TIMEOUT_SECONDS
            )
            text = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Failed(0, f"the API server does not answer: {error or type(error).__name__}") from None
        if answer.status == 401:
            # The token has expired: the next try has the one that the kubeconfig, its plugin or the pod has by then.
            with contextlib.suppress(config.ConfigException, OSError):
                await config.load_config(client_configuration=self._connection.configuration)
        if answer.status >= 300:
            raise _failed(answer.status, f"{method} {path}", text.decode(errors="replace"))
        try:
            return json.loads(text)
        except ValueError as error:
            raise Failed(0, f"{method} {path}: the answer broke off: {error}") from None


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    group, version, plural = kind
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    scope = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{root}{scope}/{plural}" + (f"/{quote(name)}" if name else "")


def _failed(status: int, request: str, text: str) -> Failed:
    """Reads a refusal: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/."""
    try:
        said = json.loads(text)
        details = said.get("details") or {}
        causes = {cause.get("reason") for cause in details.get("causes") or ()}
        return Failed(
            status,
            f"{request}: {said['message']}",
            ending="NamespaceTerminating" in causes,
            retry_seconds=float(details.get("retryAfterSeconds") or 0),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        # A proxy before the API server answers in its own way.
        return Failed(status, f"{request}: {text[:300]}")
