"""Results for people and spreadsheets: the table on the terminal, and CSV with a row per measurement."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from tritonllm.bench import results

_LOAD = ("concurrency", "request_rate", "input_tokens", "max_tokens", "dataset_entries")

COLUMNS = (
    *_LOAD,
    "succeeded",
    "failed",
    "seconds",
    *(metric.column for metric in results.RATES),
    *(f"{metric.column}_{name}" for metric in results.DISTRIBUTIONS for name in results.STATISTICS),
    "gpu_power_w_avg",
    "gpu_memory_gib_max",
    "gpu_utilization_percent_avg",
)
"""Columns of the CSV: the load, requests, throughput, the statistics of every metric, and all GPUs together."""


def to_csv(found: Iterable[results.Result]) -> str:
    """The results as CSV, a row each; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row(result) for result in found)
    return text.getvalue()


def row(result: results.Result) -> list[object]:
    """The values of `COLUMNS`; None for what was not measured."""
    found: list[object] = [result.load.get(name) for name in _LOAD]
    found += [result.succeeded, result.failed, result.seconds]
    found += [result.rates.get(metric.tag) for metric in results.RATES]
    for metric in results.DISTRIBUTIONS:
        statistics = result.distributions.get(metric.tag, {})
        found += [statistics.get(name) for name in results.STATISTICS]
    gpu = result.gpu
    found += [None] * 3 if gpu is None else [gpu.watts, gpu.memory_gib, gpu.percent]
    return found


def summary(result: results.Result) -> str:
    """The table of one measurement, with its failed requests and what the rules did."""
    cells = [["", *results.STATISTICS]]
    for metric in results.DISTRIBUTIONS:
        if metric.tag in result.distributions:
            statistics = result.distributions[metric.tag]
            cells.append([metric.title, *(number(statistics[name]) for name in results.STATISTICS)])
    for metric in results.RATES:
        if metric.tag in result.rates:
            cells.append([metric.title, number(result.rates[metric.tag])])
    seconds = "" if result.seconds is None else f" in {number(result.seconds)} s"
    requests = f"{result.succeeded} requests succeeded, {result.failed} failed{seconds}"
    lines = [*aligned(cells), requests]
    lines += [f"  {each.count} x {each.kind}: {each.message}" for each in result.errors]
    if result.verdicts is not None:
        lines += [
            f"{each.direction} rule {each.rule}: {each.action} ({each.count})" for each in result.verdicts
        ]
    if (gpu := result.gpu) is not None:
        lines.append(
            f"{gpu.gpus} GPUs: {number(gpu.watts)} W on average, {number(gpu.memory_gib)} GiB at most,"
            f" {number(gpu.percent)} % busy"
        )
    if not result.complete:
        lines.append("Stopped before the end; the numbers are those of the requests until then.")
    return "\n".join(lines)


def overview(found: Sequence[results.Result]) -> str:
    """The table of a sweep."""
    return "\n".join(aligned(rows(found)))


def rows(found: Sequence[results.Result]) -> list[list[str]]:
    """The cells of the table of a sweep: the heading, and a row per measurement."""
    load = [name for name in _LOAD if any(name in result.load for result in found)]
    head = [name.replace("_", " ") for name in load]
    head += [
        "requests/s",
        "output tokens/s",
        "TTFT p50, p99 (ms)",
        "ITL p50, p99 (ms)",
        "latency p50, p99 (ms)",
    ]
    goodput = any("goodput" in result.rates for result in found)
    cells = [[*head, *(["goodput (requests/s)"] if goodput else []), "failed"]]
    for result in found:
        line = [number(result.load.get(name)) for name in load]
        line += [number(result.rates.get(tag)) for tag in ("request_throughput", "output_token_throughput")]
        for metric in results.DISTRIBUTIONS[:3]:
            statistics = result.distributions.get(metric.tag)
            line.append(f"{number(statistics['p50'])}, {number(statistics['p99'])}" if statistics else "-")
        cells.append([*line, *([number(result.rates.get("goodput"))] if goodput else []), str(result.failed)])
    return cells


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[n]) for row in cells if n < len(row)) for n in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in cells
    ]


def number(value: float | None) -> str:
    """A number in three digits, or whole; `-` for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
