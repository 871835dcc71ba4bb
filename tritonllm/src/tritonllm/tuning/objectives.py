"""What a measurement is worth: the metric to improve, and the limits that it has to keep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tritonllm.bench import failures, results

_RATES = {
    "output-tokens-per-second": "output_token_throughput",
    "total-tokens-per-second": "total_token_throughput",
    "requests-per-second": "request_throughput",
    "goodput": "goodput",
}
_LATENCIES = {
    "ttft": "time_to_first_token",
    "itl": "inter_token_latency",
    "latency": "request_latency",
}
_STATISTICS = ("avg", "p50", "p90", "p99", "max")
_TITLES = {metric.tag: metric.title for metric in (*results.RATES, *results.DISTRIBUTIONS)}
_LIMIT = re.compile(r"(?P<name>[a-z]+)-(?P<statistic>[a-z0-9]+)=(?P<value>\d+(?:\.\d+)?)(?P<unit>ms|s)")
_UNITS = {"ms": 1.0, "s": 1000.0}


class Metric(NamedTuple):
    """A number of a measurement.

    Attributes:
        name: on the command line, such as `ttft-p99`.
        tag: AIPerf's name.
        statistic: of a distribution; empty for a rate.
    """

    name: str
    tag: str
    statistic: str

    @property
    def maximized(self) -> bool:
        """Whether more is better."""
        return not self.statistic

    @property
    def title(self) -> str:
        """For people, with the unit."""
        return f"{_TITLES[self.tag]}, {self.statistic}" if self.statistic else _TITLES[self.tag]

    def of(self, result: results.Result) -> float | None:
        """The number; None if it was not measured."""
        if self.statistic:
            return result.distributions.get(self.tag, {}).get(self.statistic)
        return result.rates.get(self.tag)


class Limit(NamedTuple):
    """A service level objective of a measurement.

    Attributes:
        metric: that is limited.
        most: milliseconds that it may have.
    """

    metric: Metric
    most: float

    def __str__(self) -> str:
        return f"{self.metric.name} {self.most:g} ms"


class Judgement(NamedTuple):
    """What a measurement is worth.

    Attributes:
        value: of the objective; None if it was not measured.
        violation: the share by which the limits are exceeded, added up; 0 if all are met.
        broken: the limits that are exceeded, in words; empty if none.
    """

    value: float | None
    violation: float
    broken: str


def objective(text: str) -> Metric:
    """The metric to improve.

    Raises:
        failures.InvalidBenchmark: there is no such metric.
    """
    if text in _RATES:
        return Metric(text, _RATES[text], "")
    found = _latency(text)
    if found is None:
        raise failures.InvalidBenchmark(
            f"--objective: `{text}` is no metric; write {', '.join(_RATES)}, or a latency to lower, as in ttft-p99"
        )
    return found


def limits(text: str) -> tuple[tuple[Limit, ...], str]:
    """The service level objectives of a text.

    Args:
        text: separated by commas. `ttft-p99=500ms` limits a statistic of a measurement: ttft, itl or latency, each with
            avg, p50, p90, p99 or max. One without a statistic, `ttft=500ms`, is of each request and counts for the goodput.

    Returns:
        Those of a measurement; and the others, for `bench.slo.parse`.

    Raises:
        failures.InvalidBenchmark: an objective is something else.
    """
    found: list[Limit] = []
    rest: list[str] = []
    for part in map(str.strip, text.split(",")):
        if "-" not in part.partition("=")[0]:
            rest.append(part)
            continue
        match = _LIMIT.fullmatch(part)
        metric = _latency(f"{match['name']}-{match['statistic']}") if match else None
        if match is None or metric is None or not float(match["value"]):
            raise failures.InvalidBenchmark(
                f"--slo: `{part}` is not an objective; write ttft, itl or latency with {', '.join(_STATISTICS)}"
                " and ms or s, as in ttft-p99=500ms"
            )
        found.append(Limit(metric, float(match["value"]) * _UNITS[match["unit"]]))
    return tuple(found), ",".join(rest)


def judge(result: results.Result, wanted: Metric, limited: Sequence[Limit]) -> Judgement:
    """What a measurement is worth. A failed request breaks the objectives, whatever the times of the others."""
    violation, broken = 0.0, []
    if result.failed:
        violation += result.failed / (result.failed + result.succeeded)
        kinds = ", ".join(f"{each.count} x {each.kind}" for each in result.errors)
        broken.append(f"{result.failed} requests failed ({kinds})")
    for limit in limited:
        value = limit.metric.of(result)
        if value is not None and value > limit.most:
            violation += value / limit.most - 1
            broken.append(f"{limit.metric.name} is {value:.4g} ms, more than {limit.most:g}")
    return Judgement(wanted.of(result), violation, "; ".join(broken))


def _latency(text: str) -> Metric | None:
    name, _, statistic = text.partition("-")
    if name not in _LATENCIES or statistic not in _STATISTICS:
        return None
    return Metric(text, _LATENCIES[name], statistic)
