"""The report of a sweep: one HTML file with charts and a table, which needs no network and follows the reader's colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from tritonllm.bench import curves, results, svg, tables

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --dim: #57606a; --line: #d8dee4; --page: #fff; --alert: #b3261e;
  --c0: #0b62c4; --c1: #b35900; --c2: #0a7d4f; --c3: #8a3ab9; --c4: #c2185b; --c5: #00707a;
  --c6: #7a6200; --c7: #5c6670; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9da7b3; --line: #30363d; --page: #0d1117;
  --alert: #ff8a80; --c0: #6cb0ff; --c1: #f0a24a; --c2: #4cc38a; --c3: #c893f0; --c4: #ff85b3; --c5: #4dd0e1;
  --c6: #d9c04a; --c7: #a8b3bf; } }
body { margin: 0 auto; max-width: 1240px; padding: 1.5rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } p { max-width: 75ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--dim); } dd { margin: 0;
  overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; } figure > svg { width: 100%; height: auto; }
figure ul { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0; padding: 0; list-style: none; color: var(--dim);
  font-size: .85rem; } figure li svg { margin-right: .4rem; }
text { fill: var(--dim); font-size: 12px; } @media (max-width: 600px) { text { font-size: 18px; } } .marked { fill: var(--alert); font-weight: 600; }
.grid { stroke: var(--line); } path { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 5 4; }
.mark { fill: none; stroke: var(--alert); stroke-width: 2; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; font-size: .9rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 600; }
""" + "".join(
    f"path.c{n} {{ stroke: var(--c{n}); }} circle.c{n} {{ fill: var(--c{n}); }}\n" for n in range(svg.COLOURS)
)

_LATENCIES = results.DISTRIBUTIONS[:3]


def to_html(title: str, settings: Mapping[str, str], found: Sequence[results.Result]) -> str:
    """The report.

    Args:
        title: of the page.
        settings: what the points have in common, for people.
        found: results of the points; those without an answered request have no place in the charts.
    """
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in settings.items()
    )
    answered = [result for result in found if result.distributions]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><dl>{listed}</dl>"
        f"{_charts(answered) if answered else '<p>No request was answered.</p>'}"
        f'<h2>All points</h2><div class="scroll" tabindex="0" role="region" aria-label="All points">{_table(found)}</div></main></body></html>\n'
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


def _table(found: Sequence[results.Result]) -> str:
    head, *rows = tables.rows(found)
    heading = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
