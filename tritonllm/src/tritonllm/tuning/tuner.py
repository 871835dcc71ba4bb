"""A tuning run: configurations are tried until trials, time or configurations run out; what is found is kept after each."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonllm.bench import curves, failures, folders, results, sweep, workload
from tritonllm.tuning import candidates, objectives, reasons, report, search, space, tables, trials

SETTINGS = "tune.json"
STUDY = "trials.sqlite3"
TABLE = "trials.csv"
REPORT = "report.html"
BEST = "best.yaml"


@dataclasses.dataclass(frozen=True)
class Task:
    """What is tuned, and for what.

    Attributes:
        original: content of the endpoint file.
        endpoint: name of the endpoint in it.
        axes: what is varied.
        wanted: the objective.
        limited: the limits that it has to keep.
        shown: the settings, for people.
        seed: of the search.
    """

    original: str
    endpoint: str
    axes: Sequence[space.Axis]
    wanted: objectives.Metric
    limited: Sequence[objectives.Limit]
    shown: Mapping[str, str]
    seed: int = 0

    def text(self, values: Mapping[str, Any]) -> str:
        """The endpoint file with other values, by the name of their axis."""
        changed = {axis.path: values[axis.name] for axis in self.axes if values[axis.name] != axis.start}
        return candidates.text(self.original, self.endpoint, changed) if changed else self.original


@dataclasses.dataclass(frozen=True)
class Budget:
    """When a run ends.

    Attributes:
        trials: in the folder, those of earlier runs included.
        minutes: after which no trial is started; None has no limit.
    """

    trials: int
    minutes: float | None = None


def settings(
    original: str,
    endpoint: str,
    axes: Sequence[space.Axis],
    wanted: objectives.Metric,
    limited: Sequence[objectives.Limit],
    asked: workload.Workload,
    points: Sequence[workload.Point],
    tokenizer: str | None,
) -> dict[str, Any]:
    """What all trials of a folder have in common, as `tune.json` has it."""
    found = sweep.settings(hashlib.sha256(original.encode()).hexdigest(), endpoint, tokenizer or "", asked)
    found["search space"] = {axis.name: list(axis.values) for axis in axes}
    found["objective"] = wanted.name
    found["limits"] = [str(limit) for limit in limited]
    found["loads"] = [point.described() for point in points]
    return found


def shown(
    target: str,
    wanted: objectives.Metric,
    limited: Sequence[objectives.Limit],
    asked: workload.Workload,
    points: Sequence[workload.Point],
    axes: Sequence[space.Axis],
) -> dict[str, str]:
    """The settings for people."""
    loads = "; ".join(curves.described(point.described(), list(curves.AXES)) for point in points)
    found = {"start configuration": target, "objective": wanted.name}
    found["limits"] = ", ".join(map(str, limited)) or "none"
    if asked.slo:
        found["of a request"] = ", ".join(
            f"{name.replace('_', ' ')} {value:g} ms" for name, value in asked.slo.items()
        )
    found["loads"] = loads
    found["configurations"] = str(space.size(axes))
    return found


def none_feasible(found: Sequence[trials.Trial]) -> str:
    """That no configuration meets the objectives, and which is nearest."""
    measured = [trial for trial in found if trial.outcome is reasons.Outcome.slo]
    nearest = min(measured, key=lambda trial: trial.violation, default=None)
    said = "no configuration keeps the objectives"
    return said if nearest is None else f"{said}; trial {nearest.number} is the nearest: {nearest.reason}"


def run(
    folder: Path,
    task: Task,
    budget: Budget,
    attempt: Callable[[str, Path], list[results.Result]],
    say: Callable[[str], None],
    now: Callable[[], float] = time.monotonic,
) -> tuple[list[trials.Trial], bool]:
    """Tries configurations, and keeps each as soon as it has ended.

    Args:
        folder: claimed for this task.
        task: what is tuned.
        budget: when to end.
        attempt: serves a configuration, given its endpoint file's content, and measures it; see `attempts.attempt`.
        say: tells of progress.
        now: a clock, in seconds.

    Returns:
        The trials of the folder, and whether Ctrl-C ended the run.

    Raises:
        failures.BenchmarkFailed: the start configuration does not start, or the folder cannot be written.
    """
    end = None if budget.minutes is None else now() + budget.minutes * 60
    with search.opened(
        folder / STUDY, task.axes, maximized=task.wanted.maximized, seed=task.seed
    ) as searched:
        stopped = False
        while True:
            found = searched.trials()
            _write(folder, task, found, searched.importances())
            if stopped or len(found) >= budget.trials or (end is not None and now() >= end):
                return found, stopped
            if (asked := searched.ask()) is None:
                say("All configurations of the search space were tried.")
                return found, False
            handle, values = asked
            number = len(found)
            say(f"Trial {number}: {_described(task, values)}")
            try:
                trial = _tried(number, values, task, attempt, folder / "trials" / f"{number:04}")
            except KeyboardInterrupt:
                searched.drop(handle)
                stopped = True
                continue
            except BaseException:
                searched.drop(handle)
                raise
            if number == 0 and trial.outcome in (reasons.Outcome.start, reasons.Outcome.unmeasured):
                searched.drop(handle)
                raise failures.BenchmarkFailed(f"the start configuration {trial.outcome}: {trial.reason}")
            searched.tell(handle, trial)
            say(f"  {tables.sentence(trial, task.wanted)}")


def _tried(
    number: int,
    values: Mapping[str, Any],
    task: Task,
    attempt: Callable[[str, Path], list[results.Result]],
    folder: Path,
) -> trials.Trial:
    try:
        found = attempt(task.text(values), folder)
    except reasons.Unusable as error:
        return trials.Trial(number, values, error.outcome, str(error))
    return trials.measured(number, values, found, task.wanted, task.limited)


def _described(task: Task, values: Mapping[str, Any]) -> str:
    changed = [
        f"{axis.path[-1]} {space.shown(values[axis.name])}"
        for axis in task.axes
        if values[axis.name] != axis.start
    ]
    return ", ".join(changed) or "the start configuration"


def _write(folder: Path, task: Task, found: Sequence[trials.Trial], importances: Mapping[str, float]) -> None:
    if not found:
        return
    best = trials.best(found, task.wanted)
    folders.write(folder / TABLE, tables.to_csv(found, task.axes, task.wanted))
    page = report.to_html(
        f"Tuning of {task.endpoint}", task.shown, found, task.axes, task.wanted, task.limited, importances
    )
    folders.write(folder / REPORT, page)
    if best is not None:
        folders.write(folder / BEST, task.text(best.values))
