"""The axes of a sweep: lists and ranges of numbers, and the grid of several axes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tritonllm.bench import failures, workload

MOST_POINTS = 1000
"""More is a mistake: each takes a good part of a minute for AIPerf's start alone."""

_NUMBER = re.compile(r"\d+(\.\d+)?")


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers of an axis; see `numbers`.

    Raises:
        failures.InvalidBenchmark: the text is not an axis of whole numbers from 1.
    """
    found = numbers(text, option)
    for value in found:
        if value != int(value):
            raise failures.InvalidBenchmark(f"{option}: {value:g} is not a whole number")
    return tuple(int(value) for value in found)


def numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers of an axis, in ascending order and without duplicates.

    Args:
        text: numbers and ranges, separated by commas: `1:256` doubles from 1 to 256, and 256 itself is always among
            them; `10:60:10` goes in steps of 10, as long as they are not above 60.
        option: for messages.

    Raises:
        failures.InvalidBenchmark: the text is something else, a number is 0, or there are too many.
    """
    found = sorted({value for part in text.split(",") for value in _part(part.strip(), option)})
    _few(len(found), option)
    return tuple(found)


def grid(axes: Mapping[str, Sequence[Any]]) -> list[workload.Point]:
    """All combinations of the axes; the first varies fastest.

    Args:
        axes: values by attribute of `workload.Point`.

    Raises:
        failures.InvalidBenchmark: there are too many.
    """
    _few(math.prod(len(values) for values in axes.values()), "the grid")
    names = [*axes][::-1]
    return [
        workload.Point(**dict(zip(names, values, strict=True)))
        for values in itertools.product(*(axes[name] for name in names))
    ]


def _part(part: str, option: str) -> Iterable[float]:
    pieces = part.split(":")
    if not 1 <= len(pieces) <= 3 or not all(_NUMBER.fullmatch(piece) for piece in pieces):
        raise failures.InvalidBenchmark(
            f"{option}: `{part}` is not a number or a range; write 8, 1:256 (doubling) or 10:60:10 (in steps of 10)"
        )
    first, *rest = (float(piece) for piece in pieces)
    if not first or (len(rest) == 2 and not rest[1]):
        raise failures.InvalidBenchmark(f"{option}: `{part}`: numbers and steps are more than 0")
    if not rest:
        return [first]
    if rest[0] < first:
        raise failures.InvalidBenchmark(f"{option}: `{part}` ends below its start")
    if len(rest) == 1:
        doubled = itertools.takewhile(
            lambda value: value < rest[0], (first * 2**n for n in itertools.count())
        )
        return [*doubled, rest[0]]
    # Multiplied rather than added, so that tenths do not drift.
    count = int((rest[0] - first) / rest[1] + 1e-9) + 1
    _few(count, option)
    return [round(first + n * rest[1], 9) for n in range(count)]


def _few(count: int, what: str) -> None:
    if count > MOST_POINTS:
        raise failures.InvalidBenchmark(f"{what} has {count} points; the most are {MOST_POINTS}")
