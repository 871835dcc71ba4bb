"""Charts as PNGs, for slides and documents; drawn by matplotlib, which has a font of its own."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tritonllm.bench import failures

if TYPE_CHECKING:
    import matplotlib.axes

    from tritonllm.bench import charts, report

_INCHES = (8, 4.6)
_DOTS_PER_INCH = 150
# Those of the report on a light page; see `page`.
_COLOURS = ("#0b62c4", "#b35900", "#0a7d4f", "#8a3ab9", "#c2185b", "#00707a", "#7a6200", "#5c6670")
_MARK = "#b3261e"


def check() -> None:
    """Finds out whether pictures can be drawn, before anything is measured.

    Raises:
        failures.BenchmarkFailed: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise failures.BenchmarkFailed(
            "matplotlib is not installed, which draws the pictures of --png; install it with `pip install matplotlib`"
        ) from None


def pictures(sections: Sequence[report.Section]) -> Mapping[str, bytes]:
    """A PNG of each chart of a report, by the name of its file."""
    return {
        f"{section.name}-{name}.png".replace("_", "-"): draw(chart)
        for section in sections
        for name, chart in section.by_name.items()
    }


def draw(chart: charts.Chart) -> bytes:
    """The chart as a PNG."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(chart.title, loc="left", fontweight="bold")
    axes.set_xlabel(chart.x_title)
    axes.grid(axis="y", color="#d8dee4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for line in chart.lines:
        _line(axes, line)
    for x, y, text in chart.marks:
        axes.plot(
            [x], [y], "o", markersize=13, markerfacecolor="none", markeredgecolor=_MARK, markeredgewidth=2
        )
        axes.annotate(text, (x, y), (8, -18), textcoords="offset points", color=_MARK, fontweight="bold")
    axes.set_ylim(bottom=0, top=1.05 * max(y for line in chart.lines for _, y, _ in line.points) or 1)
    _along(axes, chart)
    if any(line.title for line in chart.lines):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False, fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _line(axes: matplotlib.axes.Axes, line: charts.Line) -> None:
    style = "none" if not line.joined else "--" if line.dashed or line.colour >= len(_COLOURS) else "-"
    # A line without texts on its points shows no points: a front, or a limit.
    pointed = any(text for _, _, text in line.points)
    axes.plot(
        [x for x, _, _ in line.points],
        [y for _, y, _ in line.points],
        linestyle=style,
        marker="o" if pointed else "none",
        markersize=5,
        color=_COLOURS[line.colour % len(_COLOURS)],
        # matplotlib leaves out what begins with an underscore.
        label=line.title or "_",
    )
    for label, (x, y, _) in zip(line.labels, line.points, strict=False):
        axes.annotate(label, (x, y), (6, -3), textcoords="offset points", fontsize="small")


def _along(axes: matplotlib.axes.Axes, chart: charts.Chart) -> None:
    if not chart.doubling:
        axes.set_xlim(left=0)
        return
    values = sorted({x for line in chart.lines for x, _, _ in line.points})
    axes.set_xscale("log", base=2)
    shown = values[:: math.ceil(len(values) / 12)]
    axes.set_xticks(shown, [f"{value:,g}" for value in shown])
    axes.minorticks_off()
