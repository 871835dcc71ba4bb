"""One attempt at a configuration: it is checked, served and measured under each load until one breaks the objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from tritonllm import files
from tritonllm.bench import failures, folders, measure, results, targets, workload
from tritonllm.tuning import reasons


@dataclasses.dataclass(frozen=True)
class Work:
    """What each configuration has to do.

    Attributes:
        endpoint: name of the endpoint that is asked.
        asked: the workload.
        points: the loads, the least first.
        tokenizer: see `workload.Target`; None for that of the weights.
        start_seconds: within which a server has to get ready.
        enough: whether a measurement breaks the objectives, so that more load need not be tried.
    """

    endpoint: str
    asked: workload.Workload
    points: Sequence[workload.Point]
    tokenizer: str | None
    start_seconds: float
    enough: Callable[[results.Result], bool]


def attempt(work: Work, content: str, folder: Path) -> list[results.Result]:
    """Serves a configuration and measures it.

    Args:
        work: what it has to do.
        content: of its endpoint file.
        folder: for the file, the logs and the measurements.

    Returns:
        At least one measurement; the last one may break the objectives.

    Raises:
        reasons.Unusable: it cannot be used.
        KeyboardInterrupt: Ctrl-C.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "endpoint.yaml"
    folders.write(file, content)
    try:
        files.load([file])
    except files.Invalid as error:
        problems = "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
        raise reasons.Unusable(reasons.Outcome.refused, problems) from None
    try:
        with targets.served(
            file, work.endpoint, work.asked.api, folder / "serve.log", work.start_seconds
        ) as server:
            return _measured(work, server, folder)
    except failures.NotServed as error:
        raise reasons.Unusable(
            reasons.of_start(error.said), reasons.in_short(error.said) or str(error)
        ) from None


def unanswered(result: results.Result) -> str:
    """That requests got no answer, not even an error, and why; empty if each got one."""
    broken = [each for each in result.errors if not each.kind[:1].isdigit()]
    if not broken:
        return ""
    first = f"{broken[0].count} x {broken[0].kind}: {broken[0].message}"
    return f"{sum(each.count for each in broken)} requests got no answer ({first})"


def _measured(work: Work, server: targets.Server, folder: Path) -> list[results.Result]:
    found: list[results.Result] = []
    for number, point in enumerate(work.points):
        place = folder / f"load-{number}"
        try:
            result = measure.measure(
                server, work.tokenizer or server.tokenizer or "builtin", work.asked, point, place
            )
        except failures.BenchmarkFailed as error:
            raise reasons.Unusable(reasons.Outcome.unmeasured, reasons.in_short(str(error))) from None
        if not result.complete:
            raise KeyboardInterrupt
        if said := unanswered(result):
            raise reasons.Unusable(reasons.Outcome.died, said)
        found.append(result)
        if work.enough(result):
            break
    return found
