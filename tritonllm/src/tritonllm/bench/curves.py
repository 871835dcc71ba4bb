"""What the points of a sweep show together: its axes, its series, where it saturates, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritonllm.bench import results

AXES = {
    "concurrency": "Concurrency",
    "request_rate": "Request rate (requests/s)",
    "input_tokens": "Input length (tokens)",
    "max_tokens": "Maximum output length (tokens)",
    "dataset_entries": "Prompts of the dataset",
}
"""Titles of the axes by their name in `Result.load`, those of the load first."""

LOAD_AXES = ("concurrency", "request_rate")
"""The axes along which a server saturates."""

SATURATION = 0.95
"""Share of the best output token throughput at which a server counts as saturated."""

THROUGHPUT = "output_token_throughput"


def varying(found: Sequence[results.Result]) -> list[str]:
    """The axes that have more than one value."""
    return [name for name in AXES if len({result.load.get(name) for result in found}) > 1]


def axes(found: Sequence[results.Result]) -> list[str]:
    """The axes along which to draw the results: those that vary; of a single point, that of its load."""
    return varying(found) or [name for name in LOAD_AXES if name in found[0].load][:1]


def series(found: Sequence[results.Result], axis: str) -> dict[str, list[results.Result]]:
    """The results along an axis, in its order, by the values of the other axes; the name is empty if there are none."""
    others = [name for name in varying(found) if name != axis]
    lines: dict[str, list[results.Result]] = {}
    for result in sorted(found, key=lambda each: [each.load.get(name) or 0 for name in (*others, axis)]):
        if result.load.get(axis) is not None:
            lines.setdefault(described(result.load, others), []).append(result)
    return lines


def described(load: Any, axes: Sequence[str]) -> str:
    """The values of axes, for people."""
    return ", ".join(
        f"{name.replace('_', ' ')} {load[name]:g}" for name in axes if load.get(name) is not None
    )


def saturation(line: Sequence[results.Result]) -> results.Result | None:
    """Where a server saturates: the least load that has nearly the best throughput; more load adds waiting only.

    Args:
        line: results in the order of the load.

    Returns:
        The first result with `SATURATION` of the best output token throughput. None if that is the last, because
        throughput may still grow beyond it.
    """
    measured = [result for result in line if result.rates.get(THROUGHPUT)]
    if len(measured) < 2:
        return None
    enough = SATURATION * max(result.rates[THROUGHPUT] for result in measured)
    first = next(result for result in measured if result.rates[THROUGHPUT] >= enough)
    return None if first is measured[-1] else first


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats in both: less latency and more throughput.

    Args:
        points: pairs of latency and throughput.

    Returns:
        The front, in ascending order.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda each: (each[0], -each[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front
