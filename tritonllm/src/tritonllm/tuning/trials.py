"""A trial: a configuration that was tried, and how it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tritonllm.bench import results
from tritonllm.tuning import objectives, reasons


@dataclasses.dataclass(frozen=True)
class Trial:
    """A configuration that was tried.

    Attributes:
        number: 0 is the start configuration.
        values: by the name of their axis; None is the default.
        outcome: how it ended.
        reason: why it cannot be used, or what exceeded its limit; empty if it is feasible.
        value: of the objective, under the load of `result`; None if nothing was measured.
        violation: by how much the objectives are broken; see `objectives.Judgement`.
        result: the best measurement that meets the objectives, or the one that is nearest to it; None if there is none.
    """

    number: int
    values: Mapping[str, Any]
    outcome: reasons.Outcome
    reason: str = ""
    value: float | None = None
    violation: float = 0
    result: results.Result | None = None

    @property
    def feasible(self) -> bool:
        """Whether it meets all objectives."""
        return self.outcome is reasons.Outcome.feasible


def measured(
    number: int,
    values: Mapping[str, Any],
    found: Sequence[results.Result],
    wanted: objectives.Metric,
    limited: Sequence[objectives.Limit],
) -> Trial:
    """The trial of a configuration that was measured.

    Args:
        number: of the trial.
        values: of the configuration.
        found: its measurements, at least one.
        wanted: the objective.
        limited: the limits.
    """
    judged = [(objectives.judge(result, wanted, limited), result) for result in found]
    sign = 1 if wanted.maximized else -1

    def rank(each: tuple[objectives.Judgement, results.Result]) -> tuple[float, float]:
        judgement, _ = each
        return -judgement.violation, float("-inf") if judgement.value is None else sign * judgement.value

    judgement, result = max(judged, key=rank)
    if judgement.value is None:
        broken = judgement.broken or f"{wanted.name} was not measured"
        return Trial(number, values, reasons.Outcome.unmeasured, broken, result=result)
    outcome = reasons.Outcome.slo if judgement.violation else reasons.Outcome.feasible
    return Trial(number, values, outcome, judgement.broken, judgement.value, judgement.violation, result)


def best(found: Sequence[Trial], wanted: objectives.Metric) -> Trial | None:
    """The feasible trial with the best value; the first of equal ones. None if none is feasible."""
    feasible = [trial for trial in found if trial.feasible and trial.value is not None]
    sign = 1 if wanted.maximized else -1
    return max(feasible, key=lambda trial: sign * (trial.value or 0), default=None)
