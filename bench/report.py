"""Statistics of a measurement and the table of them: medians over turns, with the range of the ratios. Pure."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from client import Sample

HEAD = (
    "| streams | server | tokens/s | ratio (range) | first text p50 / p99, ms | gap p50 / p99 / max, ms "
    "| texts per answer | CPU, µs per token |\n|---|---|---|---|---|---|---|---|"
)


@dataclasses.dataclass(frozen=True)
class Turn:
    """One server's turn.

    Attributes:
        tokens_per_second: of all streams.
        first_text_p50_ms: from a request to its first text.
        first_text_p99_ms: likewise.
        gap_p50_ms: between two texts of an answer.
        gap_p99_ms: likewise.
        gap_max_ms: likewise.
        events_per_request: events with text of an answer.
        cpu_us_per_token: CPU time by process; empty if it was not measured.
        client_cpu_us_per_token: CPU time of the measuring client.
    """

    tokens_per_second: float
    first_text_p50_ms: float
    first_text_p99_ms: float
    gap_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float
    events_per_request: float
    cpu_us_per_token: Mapping[str, float]
    client_cpu_us_per_token: float


def turn(samples: Sequence[Sample], tokens: int, cpu_seconds: Mapping[str, float]) -> Turn:
    """Sums up what the processes of the client saw.

    Args:
        samples: one of each process; all of the same turn.
        tokens: of an answer.
        cpu_seconds: CPU time that each process of the server took.
    """
    seconds = max(sample.ended for sample in samples) - min(sample.started for sample in samples)
    answers = sum(sample.answers for sample in samples)
    first_texts = [first for sample in samples for first in sample.first_texts]
    gaps = [gap for sample in samples for gap in sample.gaps]
    made = answers * tokens
    return Turn(
        tokens_per_second=made / seconds,
        first_text_p50_ms=1000 * quantile(first_texts, 0.5),
        first_text_p99_ms=1000 * quantile(first_texts, 0.99),
        gap_p50_ms=1000 * quantile(gaps, 0.5),
        gap_p99_ms=1000 * quantile(gaps, 0.99),
        gap_max_ms=1000 * quantile(gaps, 1),
        events_per_request=sum(sample.texts for sample in samples) / answers,
        cpu_us_per_token={name: 1e6 * used / made for name, used in cpu_seconds.items()},
        client_cpu_us_per_token=1e6 * sum(sample.cpu_seconds for sample in samples) / made,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of all; 0 if there are no values."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def median(turns: Sequence[Turn]) -> Turn:
    """The median of each number."""
    numbers: dict[str, Any] = {
        field.name: statistics.median(getattr(each, field.name) for each in turns)
        for field in dataclasses.fields(Turn)
        if field.name != "cpu_us_per_token"
    }
    names = {name: None for each in turns for name in each.cpu_us_per_token}
    cpu = {name: statistics.median(each.cpu_us_per_token.get(name, 0.0) for each in turns) for name in names}
    return Turn(cpu_us_per_token=cpu, **numbers)


def step(
    streams: int, server: str, turns: Sequence[Turn], base: str, bases: Sequence[Turn]
) -> dict[str, Any]:
    """Compares two servers at one number of streams.

    Args:
        streams: requests at a time.
        server: name of the server.
        turns: its turns.
        base: name of the server it is compared with.
        bases: the base's turns, each next to the one of the same index.

    Returns:
        The entry of the JSON report. `ratio` is the median of the turns' ratios of tokens per second, and
        `first_text_ratio` that of the medians of the first texts. What belongs to the base begins with `base_`.
    """
    pairs = list(zip(turns, bases, strict=True))
    ratios = _ratios(turns, bases)
    first_texts = [
        ours.first_text_p50_ms / theirs.first_text_p50_ms
        for ours, theirs in pairs
        if theirs.first_text_p50_ms
    ]
    return {
        "streams": streams,
        "server": server,
        "base": base,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "first_text_ratio": statistics.median(first_texts) if first_texts else None,
        **dataclasses.asdict(median(turns)),
        **{f"base_{name}": value for name, value in dataclasses.asdict(median(bases)).items()},
        "turns": [dataclasses.asdict(each) for each in turns],
        "base_turns": [dataclasses.asdict(each) for each in bases],
    }


def row(streams: int, server: str, turns: Sequence[Turn], bases: Sequence[Turn] = ()) -> str:
    """A row of the table that `HEAD` begins; the base itself has no ratio."""
    middle = median(turns)
    ratios = _ratios(turns, bases) if bases else []
    return _row(
        streams,
        server,
        f"{middle.tokens_per_second:.0f}",
        _range(statistics.median(ratios), min(ratios), max(ratios)) if ratios else "",
        f"{middle.first_text_p50_ms:.0f} / {middle.first_text_p99_ms:.0f}",
        f"{middle.gap_p50_ms:.1f} / {middle.gap_p99_ms:.0f} / {middle.gap_max_ms:.0f}",
        f"{middle.events_per_request:.1f}",
        _cpu(middle.cpu_us_per_token),
    )


def ratio_row(step: Mapping[str, Any]) -> str:
    """A row with nothing but the ratio of two servers that have rows of their own."""
    ratio = _range(step["ratio"], step["ratio_min"], step["ratio_max"])
    return _row(step["streams"], f"{step['server']} to {step['base']}", "", ratio, "", "", "", "")


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _range(middle: float, lowest: float, highest: float) -> str:
    return f"{middle:.2f} ({lowest:.2f} to {highest:.2f})"


def _ratios(turns: Sequence[Turn], bases: Sequence[Turn]) -> list[float]:
    return [
        ours.tokens_per_second / theirs.tokens_per_second for ours, theirs in zip(turns, bases, strict=True)
    ]


def _cpu(used: Mapping[str, float]) -> str:
    # Processes that do nothing for a request take a moment now and then.
    shown = ", ".join(f"{role} {value:.0f}" for role, value in used.items() if value >= 0.5)
    return f"{shown}: {sum(used.values()):.0f}" if shown else ""
