"""Trials for people and spreadsheets: a sentence, the table of the best ones, and CSV with a row per trial."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tritonllm.bench import results
from tritonllm.bench import tables as bench_tables
from tritonllm.tuning import objectives, space, trials

_SHOWN = 10


def sentence(trial: trials.Trial, wanted: objectives.Metric) -> str:
    """How a trial ended, in one line."""
    measured = "" if trial.value is None else f"{wanted.name} {bench_tables.number(trial.value)}{load(trial)}"
    outcome = "" if trial.feasible else f"{trial.outcome}: {trial.reason}"
    return "; ".join(part for part in (measured, outcome) if part)


def load(trial: trials.Trial) -> str:
    """The load under which a trial was best, such as ` at concurrency 64`."""
    if trial.result is None:
        return ""
    given = trial.result.load
    for name in ("request_rate", "concurrency"):
        if given.get(name) is not None:
            return f" at {name.replace('_', ' ')} {given[name]:g}"
    return ""


def overview(found: Sequence[trials.Trial], axes: Sequence[space.Axis], wanted: objectives.Metric) -> str:
    """The table of the best trials and of the start configuration."""
    sign = -1 if wanted.maximized else 1
    ranked = sorted(
        (trial for trial in found if trial.feasible),
        key=lambda trial: (sign * (trial.value or 0), trial.number),
    )[:_SHOWN]
    if found and found[0] not in ranked:
        ranked.append(found[0])
    head, *rows = rows_of(ranked, axes, wanted)
    return "\n".join(bench_tables.aligned([head, *rows]))


def rows_of(
    found: Sequence[trials.Trial], axes: Sequence[space.Axis], wanted: objectives.Metric
) -> list[list[str]]:
    """The cells of a table: the heading, and a row per trial."""
    cells = [
        [
            "trial",
            *(axis.path[-1] for axis in axes),
            wanted.name,
            "load",
            "outcome",
            *(f"{metric.column.removesuffix('_ms')} p50, p99 (ms)" for metric in results.DISTRIBUTIONS[:3]),
        ]
    ]
    for trial in found:
        row = [str(trial.number), *(space.shown(trial.values[axis.name]) for axis in axes)]
        row += [
            bench_tables.number(trial.value),
            load(trial).removeprefix(" at ") or "-",
            trial.outcome.value,
        ]
        for metric in results.DISTRIBUTIONS[:3]:
            statistics = trial.result.distributions.get(metric.tag) if trial.result else None
            row.append(
                f"{bench_tables.number(statistics['p50'])}, {bench_tables.number(statistics['p99'])}"
                if statistics
                else "-"
            )
        cells.append(row)
    return cells


def to_csv(found: Sequence[trials.Trial], axes: Sequence[space.Axis], wanted: objectives.Metric) -> str:
    """CSV with a row per trial: its values, how it ended, and the columns of a measurement."""
    output = io.StringIO()
    head = ["trial", *(axis.name for axis in axes), "outcome", "reason", wanted.name.replace("-", "_")]
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([*head, *bench_tables.COLUMNS])
    for trial in found:
        values = [space.shown(trial.values[axis.name]) for axis in axes]
        measured = bench_tables.row(trial.result) if trial.result else [None] * len(bench_tables.COLUMNS)
        writer.writerow([trial.number, *values, trial.outcome.value, trial.reason, trial.value, *measured])
    return output.getvalue()
