"""A sweep in a few numbers for each point, short enough for the termination message of a container. Pure.

The operator reads it from the pod's status, which needs no right to read logs. Counts and times only: messages of errors could
contain the text of a request or of a rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from tritonllm.bench import results

# Kubernetes keeps 4 KiB: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/. A point takes
# up to 250 bytes, of which this is the only text.
_LONGEST = 64
_COUNTS = ("concurrency", "succeeded", "failed")
_NUMBERS = ("outputTokensPerSecond", "ttftP99Ms", "latencyP99Ms")


def text(found: Iterable[results.Result]) -> str:
    """One line of JSON: `{"points": [{"concurrency": 16, "outputTokensPerSecond": 812.5, …}]}`."""
    return json.dumps({"points": [_point(result) for result in found]}, separators=(",", ":"))


def points(message: str) -> list[dict[str, Any]] | None:
    """The points of a termination message; None if it has none."""
    try:
        found = json.loads(message)["points"]
        return [_checked(point) for point in found] or None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _point(result: results.Result) -> dict[str, Any]:
    found: dict[str, Any] = {
        "concurrency": result.load["concurrency"],
        "succeeded": result.succeeded,
        "failed": result.failed,
    }
    if (rate := result.rates.get("output_token_throughput")) is not None:
        found["outputTokensPerSecond"] = round(rate, 1)
    for name, tag in (("ttftP99Ms", "time_to_first_token"), ("latencyP99Ms", "request_latency")):
        if tag in result.distributions:
            found[name] = round(result.distributions[tag]["p99"], 1)
    if result.errors:
        found["error"] = result.errors[0].kind[:_LONGEST]
    return found


def _checked(point: dict[str, Any]) -> dict[str, Any]:
    """The point as the status takes it, whatever image has written it."""
    found: dict[str, Any] = {name: int(point[name]) for name in _COUNTS}
    found |= {name: float(point[name]) for name in _NUMBERS if name in point}
    if not all(0 <= value < math.inf for value in found.values()):
        raise ValueError("it is no point")
    return found | ({"error": str(point["error"])[:_LONGEST]} if "error" in point else {})
