"""Charts as data: lines and points over an axis, which `svg` draws for the report and `png` as pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

COLOURS = 8
"""Number of colours; those of a page are in its CSS, as `--c0` and so on."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        title: for the legend; empty is not listed.
        points: x, y and what a pointer on it shows.
        colour: its number; from `COLOURS` on, lines are dashed as well.
        dashed: for the other one of two related lines.
        joined: whether the points are joined by a line.
        labels: texts beside the points; empty has none.
    """

    title: str
    points: Sequence[tuple[float, float, str]]
    colour: int = 0
    dashed: bool = False
    joined: bool = True
    labels: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart; y starts at 0.

    Attributes:
        title: above it: what y is, with the unit.
        x_title: of the axis, with the unit.
        lines: to draw.
        doubling: x is logarithmic, and each measured value has a tick.
        marks: x, y and text of points to point out.
    """

    title: str
    x_title: str
    lines: Sequence[Line]
    doubling: bool = False
    marks: Sequence[tuple[float, float, str]] = ()
