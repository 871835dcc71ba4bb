"""What a user does with the objects of one namespace of a real API server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tritonllm import api

Json = dict[str, Any]
_MERGE = {"Content-Type": "application/merge-patch+json"}
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_ENDPOINTS = f"/apis/{api.API_VERSION}"
_PLACES = {
    "llmendpoints": _ENDPOINTS,
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "configmaps": "/api/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "events": "/api/v1",
}


def until(
    condition: Callable[[], Any],
    story: Callable[[], object] = str,
    seconds: float = 120,
    every: float = 0.02,
) -> Any:
    """Waits for a condition and returns what came true.

    Raises:
        AssertionError: it does not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {story()}"
        time.sleep(every)
    return found


class Namespace:
    """What a user does in one namespace."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client = client
        self.name = name

    def path(self, kind: str, name: str = "") -> str:
        """Where objects of a kind are."""
        return "/".join(filter(None, (f"{_PLACES[kind]}/namespaces/{self.name}/{kind}", name)))

    def get(self, kind: str, name: str) -> Json | None:
        """An object, if there is one."""
        answer = self.client.get(self.path(kind, name))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def list(self, kind: str, labels: str = "") -> list[Json]:
        """All objects of a kind, or those with labels."""
        answer = self.client.get(self.path(kind), params={"labelSelector": labels})
        return answer.raise_for_status().json()["items"]

    def create(self, kind: str, body: Mapping[str, Any]) -> Json:
        """Makes an object."""
        answer = self.client.post(self.path(kind), json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def patch(self, kind: str, name: str, body: Mapping[str, Any], part: str = "") -> Json:
        """Changes fields of an object."""
        answer = self.client.patch(self.path(kind, name) + part, json=body, headers=_MERGE)
        assert answer.is_success, answer.text
        return answer.json()

    def apply(self, kind: str, body: Mapping[str, Any], manager: str, part: str = "") -> Json:
        """Server-side apply."""
        place = self.path(kind, body["metadata"]["name"]) + part
        query = {"fieldManager": manager, "force": "true"}
        answer = self.client.patch(place, json=body, headers=_APPLY, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object at once; what it owns goes soon after."""
        place = self.path(kind, name)
        self.client.request(
            "DELETE", place, json={"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        )

    def trouble(self, pod: str, **status: Any) -> None:
        """Sets fields of the status of a pod, unless a controller has just deleted it."""
        place = self.path("pods", pod) + "/status"
        answer = self.client.patch(place, json={"status": status}, headers=_MERGE)
        assert answer.is_success or answer.status_code == 404, answer.text

    def edit(self, name: str, **spec: Any) -> int:
        """Changes fields of an endpoint's spec.

        Returns:
            Its new generation.
        """
        return self.patch("llmendpoints", name, {"spec": spec})["metadata"]["generation"]

    def status(self, name: str = "chat") -> Json:
        """An endpoint's status, with its conditions by type."""
        status = (self.get("llmendpoints", name) or {}).get("status", {})
        return {**status, "conditions": {item["type"]: item for item in status.get("conditions", ())}}

    def condition(self, kind: str, name: str = "chat") -> tuple[str, str, str]:
        """A condition's status, reason and message."""
        found = self.status(name)["conditions"].get(kind, {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def events(self, name: str = "chat") -> list[tuple[str, str, str]]:
        """Type, reason and message of all Events about an endpoint."""
        return [
            (item["type"], item["reason"], item["message"])
            for item in self.list("events")
            if item["involvedObject"]["name"] == name
        ]

    def versions(self) -> dict[str, str]:
        """The resourceVersion of everything: the same twice means that nobody wrote.

        Kubernetes' controllers write their Events when they find the time.
        """
        return {
            f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for kind in _PLACES
            for item in self.list(kind)
            if item.get("involvedObject", {}).get("kind") in (None, api.KIND)
        }
