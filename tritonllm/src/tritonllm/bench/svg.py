"""Line charts as SVG, by hand.

A plotting library would put megabytes of JavaScript into each report (plotly) or could not follow the reader's dark
colours (matplotlib), for the few lines and points that a sweep has.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence

from tritonllm.bench.charts import COLOURS, Chart, Line

WIDTH, HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 16, 56
_TICKS = 5
_LABEL_HEIGHT = 12


def draw(chart: Chart) -> str:
    """The chart as an HTML figure with a legend."""
    points = [point for line in chart.lines for point in line.points]
    x_ticks = _x_ticks(sorted({x for x, _, _ in points}), doubling=chart.doubling)
    y_ticks = ticks(0, max(y for _, y, _ in points))
    xs = [x for x, _, _ in points] + ([] if chart.doubling else x_ticks)
    scale = _Scale(min(xs), max(xs), y_ticks[-1] or 1, doubling=chart.doubling)
    parts = [f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{scale.y(y):.1f}" y2="{scale.y(y):.1f}"/>' for y in y_ticks]  # fmt: skip
    parts += [_text(_LEFT - 8, scale.y(y) + 4, _number(y), "end") for y in y_ticks]
    parts += [_text(scale.x(x), HEIGHT - _BOTTOM + 18, _number(x), "middle") for x in x_ticks]
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, chart.x_title, "middle"))
    for line in chart.lines:
        parts += _line(line, scale)
    for x, y, text in chart.marks:
        parts.append(f'<circle class="mark" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="8"/>')
        # Below the curve, which is flat there.
        left = scale.x(x) > WIDTH - 140
        parts.append(
            _text(
                scale.x(x) + (-4 if left else 4), scale.y(y) + 24, text, "end" if left else "start", "marked"
            )
        )
    legend = "".join(
        f'<li><svg width="24" height="10" aria-hidden="true"><path class="{_class(line)}" d="M1 5H23"/></svg>{html.escape(line.title)}</li>'
        for line in chart.lines
        if line.title
    )
    title = html.escape(chart.title)
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
        f"<ul>{legend}</ul></figure>"
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, about five of them."""
    span = high - low or abs(high) or 1
    magnitude = 10 ** math.floor(math.log10(span / _TICKS))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude * _TICKS >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


class _Scale:
    """From values to coordinates."""

    def __init__(self, low: float, high: float, top: float, *, doubling: bool) -> None:
        self._doubling, self._top = doubling, top
        self._low, self._high = self._along(low), self._along(high)

    def x(self, value: float) -> float:
        span = self._high - self._low
        share = (self._along(value) - self._low) / span if span else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - value / self._top * (HEIGHT - _TOP - _BOTTOM)

    def _along(self, value: float) -> float:
        return math.log2(value) if self._doubling else value


def _x_ticks(values: Sequence[float], *, doubling: bool) -> list[float]:
    if not doubling:
        return ticks(min(0, values[0]), values[-1])
    every = math.ceil(len(values) / 12)
    return list(values[::every])


def _line(line: Line, scale: _Scale) -> list[str]:
    found: list[str] = []
    places = [(scale.x(x), scale.y(y), text) for x, y, text in line.points]
    if line.joined and len(places) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
        found.append(f'<path class="{_class(line)}" d="M{path}"/>')
    found += [
        f'<circle class="c{line.colour % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{html.escape(text)}</title></circle>'
        for x, y, text in places
        if text
    ]
    return found + list(_labels(line.labels, places))


def _labels(labels: Sequence[str], places: Sequence[tuple[float, float, str]]) -> Iterator[str]:
    """The labels that do not cover one before them."""
    written: list[float] = []
    for label, (x, y, _) in zip(labels, places, strict=False):
        if all(abs(y - other) > _LABEL_HEIGHT for other in written):
            written.append(y)
            yield _text(x + 8, y + 4, label, "start")


def _class(line: Line) -> str:
    dashed = line.dashed or line.colour >= COLOURS
    return f"c{line.colour % COLOURS}{' dashed' if dashed else ''}"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
