"""The report of a tuning run: what was tried, what it gave and cost, which argument mattered, and against the start."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from tritonllm.bench import charts, page, results, svg
from tritonllm.bench import tables as bench_tables
from tritonllm.tuning import objectives, reasons, space, tables, trials

_FEASIBLE, _BROKEN, _FRONT, _BEST_SO_FAR, _LIMIT = 0, 1, 7, 2, 4
# p99 is what people limit; where nothing is limited, the trade-off is against this.
_USUAL = ("ttft-p99", "itl-p99")


def to_html(
    title: str,
    settings: Mapping[str, str],
    found: Sequence[trials.Trial],
    axes: Sequence[space.Axis],
    wanted: objectives.Metric,
    limited: Sequence[objectives.Limit],
    importances: Mapping[str, float],
) -> str:
    """The report.

    Args:
        title: of the page.
        settings: of the run, for people.
        found: the trials, at least one.
        axes: what was varied.
        wanted: the objective.
        limited: the limits.
        importances: share of each axis; see `search.Search.importances`.
    """
    best = trials.best(found, wanted)
    sections = [
        _conclusion(found, best, wanted),
        _comparison(found[0], best, axes, wanted),
        _charts(found, best, wanted, limited),
        _importance(axes, importances),
        f"<h2>All trials</h2>{page.table(tables.rows_of(found, axes, wanted), 'All trials')}",
        _reasons(found),
    ]
    return page.to_html(title, settings, "".join(sections))


def _conclusion(found: Sequence[trials.Trial], best: trials.Trial | None, wanted: objectives.Metric) -> str:
    counts = {outcome: sum(trial.outcome is outcome for trial in found) for outcome in reasons.Outcome}
    listed = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if best is None:
        said = "No configuration meets the objectives."
    elif best.number == 0:
        said = "The start configuration is the best one."
    else:
        said = (
            f"Trial {best.number} is the best one: {tables.sentence(best, wanted)}{_ratio(found[0], best)}."
        )
    return f"<p>{html.escape(f'{said} {len(found)} trials: {listed}.')}</p>"


def _ratio(start: trials.Trial, best: trials.Trial) -> str:
    if not start.value or best.value is None:
        return ""
    return f", {best.value / start.value:.3g} times the start configuration's"


def _comparison(
    start: trials.Trial, best: trials.Trial | None, axes: Sequence[space.Axis], wanted: objectives.Metric
) -> str:
    if best is None or best.number == 0:
        return ""
    cells = [["field or metric", "start", "best"]]
    cells += [
        [axis.name, space.shown(start.values[axis.name]), space.shown(best.values[axis.name])]
        for axis in axes
    ]
    cells.append([wanted.title, bench_tables.number(start.value), bench_tables.number(best.value)])
    pair = (start, best)
    cells.append(["Load", *(tables.load(trial).removeprefix(" at ") or "-" for trial in pair)])
    for metric in results.DISTRIBUTIONS[:3]:
        row = [f"{metric.title}, p50 and p99"]
        for trial in pair:
            statistics = trial.result.distributions.get(metric.tag) if trial.result else None
            row.append(
                ", ".join(bench_tables.number(statistics[name]) for name in ("p50", "p99"))
                if statistics
                else "-"
            )
        cells.append(row)
    cells.append(["Outcome", *(trial.outcome.value for trial in pair)])
    note = "Each was measured once. Compare the two in turns before you roll it out: <code>tritonllm bench compare</code>."
    return f"<h2>Best and start configuration</h2>{page.table(cells, 'Best and start configuration')}<p>{note}</p>"


def _charts(
    found: Sequence[trials.Trial],
    best: trials.Trial | None,
    wanted: objectives.Metric,
    limited: Sequence[objectives.Limit],
) -> str:
    measured = [trial for trial in found if trial.value is not None]
    if not measured:
        return ""
    against = {limit.metric: limit.most for limit in limited}
    for name in _USUAL:
        against.setdefault(objectives.objective(name), 0)
    against.pop(wanted, None)
    drawn = [
        svg.draw(chart)
        for metric, most in against.items()
        if (chart := _trade_off(measured, best, wanted, metric, most)) is not None
    ]
    drawn.append(svg.draw(_history(measured, wanted)))
    return f'<h2>Trade-off and progress</h2><div class="charts">{"".join(drawn)}</div>'


def _trade_off(
    measured: Sequence[trials.Trial],
    best: trials.Trial | None,
    wanted: objectives.Metric,
    metric: objectives.Metric,
    most: float,
) -> charts.Chart | None:
    places = {trial.number: (x, trial.value) for trial in measured if trial.result and trial.value is not None and (x := metric.of(trial.result)) is not None}  # fmt: skip
    if not places:
        return None
    drawn: list[charts.Line] = []
    for title, colour, feasible in (("meets the objectives", _FEASIBLE, True), ("does not", _BROKEN, False)):
        points = [
            (*places[trial.number], f"trial {trial.number}")
            for trial in measured
            if trial.number in places and trial.feasible is feasible
        ]
        if points:
            drawn.append(charts.Line(title, points, colour, joined=False))
    if most:
        top = max(y for _, y in places.values())
        drawn.append(
            charts.Line(f"limit of {most:g} ms", [(most, 0, ""), (most, top, "")], _LIMIT, dashed=True)
        )
    marks = [(*places[trial.number], name) for trial, name in ((best, "best"), (measured[0], "start")) if trial is not None and trial.number in places and (name == "best" or trial.number == 0)]  # fmt: skip
    if len(marks) == 2 and marks[0][:2] == marks[1][:2]:
        marks = [(*marks[0][:2], "start and best")]
    return charts.Chart(f"{wanted.title} against {metric.title}", metric.title, drawn, marks=marks)


def _history(measured: Sequence[trials.Trial], wanted: objectives.Metric) -> charts.Chart:
    sign = 1 if wanted.maximized else -1
    so_far: list[tuple[float, float, str]] = []
    for trial in measured:
        if trial.feasible and trial.value is not None:
            known = so_far[-1][1] if so_far else trial.value
            so_far.append((trial.number, max(known, trial.value, key=lambda value: sign * value), ""))
    lines = [
        charts.Line(
            title,
            [
                (trial.number, trial.value, f"trial {trial.number}: {trial.value:.4g}")
                for trial in measured
                if trial.feasible is feasible and trial.value is not None
            ],
            colour,
            joined=False,
        )
        for title, colour, feasible in (
            ("meets the objectives", _FEASIBLE, True),
            ("does not", _BROKEN, False),
        )
    ]
    lines.append(charts.Line("best so far", so_far, _BEST_SO_FAR))
    return charts.Chart(wanted.title, "Trial", [line for line in lines if line.points])


def _importance(axes: Sequence[space.Axis], importances: Mapping[str, float]) -> str:
    if not importances:
        return (
            "<h2>Importance</h2><p>Too few configurations were measured to tell which argument matters.</p>"
        )
    ranked = sorted(importances.items(), key=lambda each: -each[1])
    cells = [["argument", "share", "values"]]
    values = {axis.name: ", ".join(map(space.shown, axis.values)) for axis in axes}
    cells += [[name, f"{share:.0%}", values[name]] for name, share in ranked]
    return (
        "<h2>Importance</h2><p>How much each argument had to do with a configuration being among the best measured ones"
        f" (PED-ANOVA), whether it meets the objectives or not.</p>{page.table(cells, 'Importance')}"
    )


def _reasons(found: Sequence[trials.Trial]) -> str:
    listed = [["trial", "outcome", "reason"]]
    listed += [[str(trial.number), trial.outcome.value, trial.reason] for trial in found if trial.reason]
    if len(listed) == 1:
        return ""
    return (
        f"<h2>Why configurations cannot be used</h2>{page.table(listed, 'Why configurations cannot be used')}"
    )
