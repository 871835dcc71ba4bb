"""The report of a sweep: one HTML file with charts and a table, which needs no network and follows the reader's colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from tritonllm.bench import curves, page, results, svg, tables

_LATENCIES = results.DISTRIBUTIONS[:3]


def to_html(title: str, settings: Mapping[str, str], found: Sequence[results.Result]) -> str:
    """The report.

    Args:
        title: of the page.
        settings: what the points have in common, for people.
        found: results of the points; those without an answered request have no place in the charts.
    """
    answered = [result for result in found if result.distributions]
    body = _charts(answered) if answered else "<p>No request was answered.</p>"
    return page.to_html(
        title, settings, f"{body}<h2>All points</h2>{page.table(tables.rows(found), 'All points')}"
    )


def _charts(found: Sequence[results.Result]) -> str:
    sections: list[str] = []
    for axis in curves.axes(found):
        lines = curves.series(found, axis)
        charts = [
            svg.draw(_latency(metric, axis, lines)) for metric in _LATENCIES if _measured(metric, found)
        ]
        charts.append(svg.draw(_throughput(axis, lines)))
        said = f"<p>{html.escape(_saturation_said(axis, lines))}</p>" if axis in curves.LOAD_AXES else ""
        sections.append(
            f'<h2>By {curves.AXES[axis].lower()}</h2>{said}<div class="charts">{"".join(charts)}</div>'
        )
    pareto = '<h2>Throughput against latency</h2><div class="charts">'
    return f"{''.join(sections)}{pareto}{''.join(svg.draw(_pareto(metric, found)) for metric in _LATENCIES[1:] if _measured(metric, found))}</div>"  # fmt: skip


def _latency(metric: results.Metric, axis: str, lines: Mapping[str, Sequence[results.Result]]) -> svg.Chart:
    # Two lines for each of many series would be too many.
    statistics = ("p50", "p99") if len(lines) == 1 else ("p50",)
    drawn: list[svg.Line] = []
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
            drawn.append(svg.Line(name or statistic, points, colour, dashed=statistic == "p99"))
    title = metric.title if len(lines) == 1 else f"{metric.title}, p50"
    return svg.Chart(title, curves.AXES[axis], drawn, doubling=axis != "request_rate")


def _throughput(axis: str, lines: Mapping[str, Sequence[results.Result]]) -> svg.Chart:
    title = results.RATES[0].title
    drawn: list[svg.Line] = []
    marks: list[tuple[float, float, str]] = []
    for colour, (name, line) in enumerate(lines.items()):
        points = [
            (result.load[axis], value, f"{curves.AXES[axis]} {result.load[axis]:g}: {value:.4g}")
            for result in line
            if (value := result.rates.get(curves.THROUGHPUT)) is not None
        ]
        drawn.append(svg.Line(name, points, colour))
        if axis in curves.LOAD_AXES and (point := curves.saturation(line)):
            # The sentence above the charts says it of each of several series.
            text = f"saturated at {point.load[axis]:g}" if len(lines) == 1 else ""
            marks.append((point.load[axis], point.rates[curves.THROUGHPUT], text))
    return svg.Chart(title, curves.AXES[axis], drawn, doubling=axis != "request_rate", marks=marks)


def _saturation_said(axis: str, lines: Mapping[str, Sequence[results.Result]]) -> str:
    said: list[str] = []
    for name, line in lines.items():
        point = curves.saturation(line)
        where = f"at {point.load[axis]:g}" if point else "not reached, so throughput may grow with more load"
        said.append(f"{name}: {where}" if name else where)
    share = f"{curves.SATURATION:.0%}"
    return f"Saturation (the least load with {share} of the best output token throughput): {'; '.join(said)}."


def _pareto(metric: results.Metric, found: Sequence[results.Result]) -> svg.Chart:
    """Output token throughput against the median of a latency; up and to the left is better."""
    axis = curves.axes(found)[0]
    points: list[tuple[float, float, str]] = []
    drawn: list[svg.Line] = []
    for colour, (name, line) in enumerate(curves.series(found, axis).items()):
        places = [
            (result.distributions[metric.tag]["p50"], result.rates[curves.THROUGHPUT], curves.described(result.load, list(curves.AXES)))
            for result in line
            if metric.tag in result.distributions and curves.THROUGHPUT in result.rates
        ]  # fmt: skip
        points += places
        labels = () if name else [f"{result.load[axis]:g}" for result in line]
        drawn.append(svg.Line(name, places, colour, joined=False, labels=labels))
    front = [(x, y, "") for x, y in curves.pareto([(x, y) for x, y, _ in points])]
    drawn.append(svg.Line("Pareto front: no point has less latency and more throughput", front, svg.COLOURS - 1, dashed=True))  # fmt: skip
    return svg.Chart(f"{results.RATES[0].title} against {metric.title}", f"{metric.title}, p50", drawn)


def _measured(metric: results.Metric, found: Sequence[results.Result]) -> bool:
    return any(metric.tag in result.distributions for result in found)
