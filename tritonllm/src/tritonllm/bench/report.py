"""The report of a sweep: one HTML file with charts and a table, which needs no network and follows the reader's colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tritonllm.bench import charts, curves, page, results, svg, tables

_LATENCIES = results.DISTRIBUTIONS[:3]


class Section(NamedTuple):
    """Charts that belong together.

    Attributes:
        title: above them.
        name: for files.
        said: sentence above them; empty for none.
        by_name: the charts, by name for files.
    """

    title: str
    name: str
    said: str
    by_name: Mapping[str, charts.Chart]


def to_html(title: str, settings: Mapping[str, str], found: Sequence[results.Result]) -> str:
    """The report.

    Args:
        title: of the page.
        settings: what the points have in common, for people.
        found: results of the points.
    """
    body = "".join(map(_html, sections(found))) or "<p>No request was answered.</p>"
    return page.to_html(
        title, settings, f"{body}<h2>All points</h2>{page.table(tables.rows(found), 'All points')}"
    )


def sections(found: Sequence[results.Result]) -> list[Section]:
    """The charts: along each axis, and throughput against latency.

    Args:
        found: results of the points; those without an answered request are left out.
    """
    answered = [result for result in found if result.distributions]
    if not answered:
        return []
    measured = [metric for metric in _LATENCIES if any(metric.tag in each.distributions for each in answered)]
    drawn: list[Section] = []
    for axis in curves.axes(answered):
        lines = curves.series(answered, axis)
        along = {metric.column: _latency(metric, axis, lines) for metric in measured}
        along[results.RATES[0].column] = _throughput(axis, lines)
        said = _saturation_said(axis, lines) if axis in curves.LOAD_AXES else ""
        drawn.append(Section(f"By {curves.AXES[axis].lower()}", axis, said, along))
    pareto = {metric.column: _pareto(metric, answered) for metric in _LATENCIES[1:] if metric in measured}
    return [*drawn, Section("Throughput against latency", "throughput", "", pareto)]


def _latency(
    metric: results.Metric, axis: str, lines: Mapping[str, Sequence[results.Result]]
) -> charts.Chart:
    # Two lines for each of many series would be too many.
    statistics = ("p50", "p99") if len(lines) == 1 else ("p50",)
    drawn: list[charts.Line] = []
    for colour, (name, line) in enumerate(lines.items()):
        for statistic in statistics:
            points = [
                (
                    result.load[axis],
                    value,
                    f"{curves.AXES[axis]} {result.load[axis]:g}: {statistic} {value:.4g}",
                )
                for result in line
                if (value := result.distributions.get(metric.tag, {}).get(statistic)) is not None
            ]
            drawn.append(charts.Line(name or statistic, points, colour, dashed=statistic == "p99"))
    title = metric.title if len(lines) == 1 else f"{metric.title}, p50"
    return charts.Chart(title, curves.AXES[axis], drawn, doubling=axis != "request_rate")


def _throughput(axis: str, lines: Mapping[str, Sequence[results.Result]]) -> charts.Chart:
    title = results.RATES[0].title
    drawn: list[charts.Line] = []
    marks: list[tuple[float, float, str]] = []
    for colour, (name, line) in enumerate(lines.items()):
        points = [
            (result.load[axis], value, f"{curves.AXES[axis]} {result.load[axis]:g}: {value:.4g}")
            for result in line
            if (value := result.rates.get(curves.THROUGHPUT)) is not None
        ]
        drawn.append(charts.Line(name, points, colour))
        if axis in curves.LOAD_AXES and (point := curves.saturation(line)):
            # The sentence above the charts says it of each of several series.
            text = f"saturated at {point.load[axis]:g}" if len(lines) == 1 else ""
            marks.append((point.load[axis], point.rates[curves.THROUGHPUT], text))
    return charts.Chart(title, curves.AXES[axis], drawn, doubling=axis != "request_rate", marks=marks)


def _saturation_said(axis: str, lines: Mapping[str, Sequence[results.Result]]) -> str:
    said: list[str] = []
    for name, line in lines.items():
        point = curves.saturation(line)
        where = f"at {point.load[axis]:g}" if point else "not reached, so throughput may grow with more load"
        said.append(f"{name}: {where}" if name else where)
    share = f"{curves.SATURATION:.0%}"
    return f"Saturation (the least load with {share} of the best output token throughput): {'; '.join(said)}."


def _pareto(metric: results.Metric, found: Sequence[results.Result]) -> charts.Chart:
    """Output token throughput against the median of a latency; up and to the left is better."""
    axis = curves.axes(found)[0]
    points: list[tuple[float, float, str]] = []
    drawn: list[charts.Line] = []
    for colour, (name, line) in enumerate(curves.series(found, axis).items()):
        places = [
            (result.distributions[metric.tag]["p50"], result.rates[curves.THROUGHPUT], curves.described(result.load, list(curves.AXES)))
            for result in line
            if metric.tag in result.distributions and curves.THROUGHPUT in result.rates
        ]  # fmt: skip
        points += places
        labels = () if name else [f"{result.load[axis]:g}" for result in line]
        drawn.append(charts.Line(name, places, colour, joined=False, labels=labels))
    front = [(x, y, "") for x, y in curves.pareto([(x, y) for x, y, _ in points])]
    drawn.append(charts.Line("Pareto front: no point has less latency and more throughput", front, charts.COLOURS - 1, dashed=True))  # fmt: skip
    return charts.Chart(f"{results.RATES[0].title} against {metric.title}", f"{metric.title}, p50", drawn)


def _html(section: Section) -> str:
    said = f"<p>{html.escape(section.said)}</p>" if section.said else ""
    drawn = "".join(map(svg.draw, section.by_name.values()))
    return f'<h2>{html.escape(section.title)}</h2>{said}<div class="charts">{drawn}</div>'
