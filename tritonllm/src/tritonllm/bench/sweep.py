"""A sweep: the points of a grid, measured one after the other, each kept as soon as it is there.

A folder remembers what is asked in `sweep.json`. Points that it has are not measured again, so that a sweep that was
stopped goes on, and one with more points takes the rest only. Points in which the server did not answer are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonllm.bench import curves, failures, folders, png, report, results, tables, workload

SETTINGS = "sweep.json"
TABLE = "sweep.csv"
REPORT = "report.html"
PICTURES = "png"
"""Folder of the report's charts as PNGs."""


def settings(target: str, model: str, tokenizer: str, asked: workload.Workload) -> dict[str, Any]:
    """What all points of a folder have in common, as `sweep.json` has it.

    Args:
        target: as the command line names it.
        model: that is asked.
        tokenizer: see `workload.Target`.
        asked: with the file of prompts in the folder, of which the digest counts.

    Raises:
        OSError: the file of prompts cannot be read.
    """
    found: dict[str, Any] = {"target": target, "model": model, "tokenizer": tokenizer}
    found |= dataclasses.asdict(asked)
    if asked.dataset is not None:
        found["dataset"] = f"sha256:{hashlib.sha256(asked.dataset.read_bytes()).hexdigest()}"
    return found


def claim(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Makes the folder that of this sweep; see `folders.claim`."""
    folders.claim(folder, SETTINGS, wanted, "a sweep")


def run(
    folder: Path,
    wanted: Mapping[str, Any],
    points: Sequence[workload.Point],
    measure: Callable[[workload.Point, Path], results.Result],
    say: Callable[[str], None],
) -> list[results.Result]:
    """Measures the points that the folder has not; CSV and report are written after each.

    Args:
        folder: of the sweep, claimed.
        wanted: its settings.
        points: of the grid.
        measure: measures a point and writes its result into a folder. Raises `failures.BenchmarkFailed` if there is none.
        say: tells of progress.

    Returns:
        The results, in the order of the points; fewer than points after Ctrl-C.

    Raises:
        failures.BenchmarkFailed: a point has no result, or no request succeeded. The points before it are kept.
    """
    found: list[results.Result] = []
    for number, point in enumerate(points, 1):
        place = folder / "points" / _name(point)
        name = f"{number} of {len(points)}: {curves.described(point.described(), list(curves.AXES))}"
        result = folders.read_result(place)
        if result is not None and result.answered:
            say(f"{name}: measured already")
        else:
            say(name)
            result = measure(point, place)
            _check(result, name)
        found.append(result)
        _write(folder, wanted, found)
        if not result.complete:
            break
    return found


def write_pictures(folder: Path, found: Sequence[results.Result]) -> None:
    """Writes a PNG of each chart of the report; those of an earlier run with other axes are removed.

    Raises:
        OSError: they cannot be written.
    """
    drawn = png.pictures(report.sections(found))
    place = folder / PICTURES
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in drawn.items():
        folders.write(place / name, content)


def _check(result: results.Result, name: str) -> None:
    if not result.succeeded and result.complete:
        raise failures.BenchmarkFailed(f"{name}: no request succeeded ({_first_error(result)})")


def _first_error(result: results.Result) -> str:
    return f"{result.errors[0].kind}: {result.errors[0].message}" if result.errors else "no reason is known"


def _write(folder: Path, wanted: Mapping[str, Any], found: Sequence[results.Result]) -> None:
    folders.write(folder / TABLE, tables.to_csv(found))
    shown = {
        name.replace("_", " "): _shown(value) for name, value in wanted.items() if value not in (None, {})
    }
    folders.write(folder / REPORT, report.to_html(f"Sweep of {wanted['model']}", shown, found))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {each}" for name, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _name(point: workload.Point) -> str:
    return "-".join(f"{name}-{value:g}" for name, value in point.described().items()).replace("_", "-")
