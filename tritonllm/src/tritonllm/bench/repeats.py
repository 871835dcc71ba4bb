"""One load measured several times: how far the numbers are from each other by chance alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from tritonllm.bench import failures, folders, results, tables

SETTINGS = "repeats.json"
TABLE = "repeats.csv"
_SHOWN = (
    *((metric, name) for metric in results.DISTRIBUTIONS[:3] for name in ("p50", "p99")),
    *((metric, "") for metric in results.RATES),
)


def run(
    folder: Path,
    count: int,
    measure: Callable[[int, Path], results.Result],
    say: Callable[[str], None],
) -> list[results.Result]:
    """Measures a load several times; those of the folder are not measured again.

    Args:
        folder: for the results.
        count: how often.
        measure: measures it, given the number from 0, and writes its result into a folder.
        say: tells of progress.

    Returns:
        The results, in their order; fewer after Ctrl-C, and then the last one is not complete.

    Raises:
        failures.BenchmarkFailed: a measurement has no result, or no request succeeded.
    """
    found: list[results.Result] = []
    for number in range(count):
        place = folder / "repeats" / str(number + 1)
        say(f"{number + 1} of {count}")
        result = folders.read_result(place)
        if result is None or not result.answered:
            result = measure(number, place)
        if result.complete and not result.succeeded:
            raise failures.BenchmarkFailed(f"{number + 1} of {count}: no request succeeded; see {place}")
        found.append(result)
        folders.write(folder / TABLE, tables.to_csv(found))
        if not result.complete:
            break
    return found


def text(found: Sequence[results.Result]) -> str:
    """The table of the spread: mean, standard deviation in percent of it, minimum and maximum of the measurements."""
    cells = [["", "mean", "spread", "min", "max"]]
    for metric, name in _SHOWN:
        values = [
            value
            for result in found
            if (
                value := (
                    result.distributions.get(metric.tag, {}).get(name)
                    if name
                    else result.rates.get(metric.tag)
                )
            )
            is not None
        ]
        if len(values) == len(found):
            mean = statistics.fmean(values)
            spread = f"{statistics.stdev(values) / mean:.1%}" if len(values) > 1 and mean else "-"
            title = f"{metric.title}, {name}" if name else metric.title
            cells.append(
                [title, tables.number(mean), spread, tables.number(min(values)), tables.number(max(values))]
            )
    failed = sum(result.failed for result in found)
    return "\n".join([*tables.aligned(cells), f"{len(found)} measurements, {failed} requests failed"])
