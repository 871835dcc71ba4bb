"""Objects of the API server, as their JSON says them. Pure."""

import datetime
from collections.abc import Mapping
from typing import Any

Resource = Mapping[str, Any]


def version(resource: Resource) -> tuple[str, str]:
    """Which object it is, and in which version."""
    return resource["metadata"]["uid"], resource["metadata"]["resourceVersion"]


def annotations(resource: Resource) -> Mapping[str, str]:
    """An object's annotations."""
    return resource["metadata"].get("annotations") or {}


def labels(resource: Resource) -> Mapping[str, str]:
    """An object's labels."""
    return resource["metadata"].get("labels") or {}


def conditions(resource: Resource) -> dict[str, Resource]:
    """The conditions of an object, by type."""
    return {item["type"]: item for item in (resource.get("status") or {}).get("conditions") or ()}


def controller(resource: Resource) -> str:
    """The uid of the object that controls another one; empty where none does."""
    owners = resource["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def since(condition: Resource) -> datetime.datetime | None:
    """When a condition got its status; None where it does not say."""
    text = condition.get("lastTransitionTime")
    return time(text) if text else None


def time(text: str) -> datetime.datetime:
    """Reads a time as the API server writes it."""
    return datetime.datetime.fromisoformat(text)


def text(time: datetime.datetime) -> str:
    """Writes a time, of UTC, as the API server does."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
