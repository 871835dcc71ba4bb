"""Which Events tell of the changes of an endpoint's status. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonllm_operator import benchmarks

# Reasons that are no warning.
UNDER_WAY = (
    "Loading",
    "Rolling",
    "Starting",
    "NoPods",
    "NotAccepted",
    "EndpointsMissing",
    "Downloading",
    "WeightsDownloading",
)


@dataclass(frozen=True)
class Event:
    """An Event to publish.

    Attributes:
        type: Normal or Warning.
        reason: in CamelCase.
        message: a sentence.
    """

    type: str
    reason: str
    message: str


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    """What happened between two statuses that is worth an Event."""
    found: list[Event] = []
    shown = after.get("plan", {})
    news = any(before.get(part) != after.get(part) for part in ("plan", "observedGeneration"))
    if news and shown.get("action") in ("InPlace", "Roll"):
        models = ", ".join(shown.get("models", ()))
        word = f" ({shown['message']})" if shown.get("message") else ""
        found.append(Event("Normal", shown["action"], f"{models}{word}"))
    old = {item["type"]: item for item in before.get("conditions", ())}
    for condition in after.get("conditions", ()):
        kind = condition["type"]
        was = old.get(kind, {})
        if (was.get("status"), was.get("reason")) == (condition["status"], condition["reason"]):
            continue
        if condition["status"] == "True":
            if was.get("status") != "True" and kind != "WeightsReady":
                found.append(Event("Normal", kind, condition["message"] or "the pool takes it"))
        elif condition["reason"] not in UNDER_WAY:
            event = Event("Warning", condition["reason"], condition["message"])
            if event not in found:
                found.append(event)
    benchmark = after.get("benchmark", {})
    if benchmarks.over(before.get("benchmark", {}), benchmark):
        failed = benchmark["state"] == benchmarks.FAILED
        kind, reason = ("Warning", "BenchmarkFailed") if failed else ("Normal", "Benchmarked")
        found.append(Event(kind, reason, benchmark["message"]))
    return found
