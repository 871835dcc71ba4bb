"""Ratios of two servers with confidence intervals, from rounds in which both did the same work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from tritonllm.bench import results

# Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1: NIST/SEMATECH e-Handbook of Statistical Methods,
# section 1.3.6.7.2.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

MAX_ROUNDS = len(_T) + 1
"""Maximum number of rounds: there is no quantile for more."""

_COMPARED = (
    *((metric, "") for metric in results.RATES),
    *((metric, name) for metric in results.DISTRIBUTIONS[:3] for name in ("p50", "p99")),
)


class Ratio(NamedTuple):
    """How many times as much B has of a metric as A.

    Attributes:
        title: of the metric, with the unit.
        a: geometric mean of A's rounds.
        b: that of B's.
        ratio: b / a.
        low: lower end of the 95 % confidence interval of the ratio.
        high: its upper end; both are NaN for a single round.
    """

    title: str
    a: float
    b: float
    ratio: float
    low: float
    high: float


def of(rounds: Sequence[tuple[results.Result, results.Result]]) -> list[Ratio]:
    """The ratios of all metrics that every round has of both.

    The logarithms of the rounds' ratios get the paired t interval: a machine that is slow for a while slows both servers of
    a round, and a ratio and its inverse are equally far from 1.

    Args:
        rounds: results of A and B, at most `MAX_ROUNDS`.
    """
    found: list[Ratio] = []
    for metric, name in _COMPARED:
        pairs = [tuple(_value(result, metric, name) for result in each) for each in rounds]
        known = [(a, b) for a, b in pairs if a and b]
        if known and len(known) == len(rounds):
            found.append(_ratio(f"{metric.title}, {name}" if name else metric.title, known))
    return found


def _ratio(title: str, pairs: Sequence[tuple[float, float]]) -> Ratio:
    logs = [math.log(b / a) for a, b in pairs]
    middle = statistics.fmean(logs)
    spread = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    half = spread * _T[max(0, len(logs) - 2)]
    means = [statistics.geometric_mean(values) for values in zip(*pairs, strict=True)]
    return Ratio(
        title, means[0], means[1], math.exp(middle), math.exp(middle - half), math.exp(middle + half)
    )


def _value(result: results.Result, metric: results.Metric, name: str) -> float | None:
    return result.distributions.get(metric.tag, {}).get(name) if name else result.rates.get(metric.tag)
