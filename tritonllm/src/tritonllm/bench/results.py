"""What AIPerf's files say about a measurement. Written for AIPerf 0.13."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tritonllm import errors as request_errors

SUMMARY = "profile_export_aiperf.json"
"""AIPerf's file of metrics, within its directory. It is missing if no request succeeded."""

RECORDS = "profile_export.jsonl"
"""AIPerf's file of requests, an object per line, within its directory."""

STATISTICS = ("avg", "min", "max", "p50", "p90", "p99")


# The representation of a Python exception, whose last argument says in words what happened.
_QUOTED = re.compile(r'\w+\(.*"([^"]+)"\)+')


class Metric(NamedTuple):
    """A metric: its name in AIPerf's files, for people, and in columns.

    Attributes:
        tag: AIPerf's name.
        title: for people, with the unit.
        column: name in CSV, with the unit.
    """

    tag: str
    title: str
    column: str


DISTRIBUTIONS = (
    Metric("time_to_first_token", "Time to first token (ms)", "ttft_ms"),
    Metric("inter_token_latency", "Inter-token latency (ms)", "itl_ms"),
    Metric("request_latency", "Request latency (ms)", "latency_ms"),
    Metric("output_sequence_length", "Output length (tokens)", "output_tokens"),
    Metric("input_sequence_length", "Input length (tokens)", "input_tokens"),
)
"""Metrics of each request, of which a measurement has statistics."""

RATES = (
    Metric("output_token_throughput", "Output token throughput (tokens/s)", "output_tokens_per_s"),
    Metric("total_token_throughput", "Total token throughput (tokens/s)", "total_tokens_per_s"),
    Metric("request_throughput", "Request throughput (requests/s)", "requests_per_s"),
    Metric("goodput", "Goodput (requests/s)", "goodput_requests_per_s"),
)
"""Metrics of the whole measurement: one number each."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """Requests that failed in the same way.

    Attributes:
        kind: HTTP status and code, such as `429 queue_full`, or the kind of failure without an answer.
        count: of requests.
        message: of one of them.
    """

    kind: str
    count: int
    message: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a guardrail rule did during the measurement, warm-up included.

    Attributes:
        rule: its name.
        direction: `input` or `output`.
        action: what it did.
        count: of matches.
    """

    rule: str
    direction: str
    action: str
    count: int


@dataclasses.dataclass(frozen=True)
class GpuUse:
    """What the GPUs of the machine did during a measurement, warm-up and AIPerf's start included.

    Attributes:
        gpus: number of them.
        watts: mean power of all together; None if they do not tell.
        memory_gib: most memory in use, of all together; likewise.
        percent: mean share of the time in which they computed, 0 to 100; likewise.
    """

    gpus: int
    watts: float | None
    memory_gib: float | None
    percent: float | None


@dataclasses.dataclass(frozen=True)
class Result:
    """A measurement.

    Attributes:
        load: what was asked for; see `workload.Point.described`.
        distributions: statistics by AIPerf's name; only metrics that were measured.
        rates: numbers by AIPerf's name, likewise.
        succeeded: requests that were answered.
        failed: requests that were not.
        seconds: from the first request to the end of the last.
        complete: whether it ran to its end; not if Ctrl-C stopped it.
        errors: most frequent first.
        verdicts: None if it is not known what the rules did.
        gpu: None if the server is elsewhere, or has no GPU.
    """

    load: Mapping[str, Any]
    distributions: Mapping[str, Mapping[str, float]]
    rates: Mapping[str, float]
    succeeded: int
    failed: int
    seconds: float | None
    complete: bool
    errors: tuple[Errors, ...] = ()
    verdicts: tuple[Verdict, ...] | None = None
    gpu: GpuUse | None = None

    @property
    def answered(self) -> bool:
        """Whether it ran to its end, and the server answered each request, be it with an error."""
        return self.complete and self.succeeded > 0 and all(each.kind[:1].isdigit() for each in self.errors)

    def encoded(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def decoded(given: Mapping[str, Any]) -> Result:
    """The result that `encoded` has written.

    Raises:
        KeyError, TypeError: the object is something else.
    """
    verdicts, gpu = given["verdicts"], given.get("gpu")
    return Result(
        **{
            **given,
            "errors": tuple(Errors(**each) for each in given["errors"]),
            "verdicts": None if verdicts is None else tuple(Verdict(**each) for each in verdicts),
            "gpu": None if gpu is None else GpuUse(**gpu),
        }
    )


def parse(
    load: Mapping[str, Any],
    summary: Mapping[str, Any] | None,
    records: Iterable[Mapping[str, Any]],
    verdicts: tuple[Verdict, ...] | None,
    *,
    stopped: bool = False,
) -> Result:
    """The result of AIPerf's files.

    Args:
        load: what was asked for.
        summary: the content of `SUMMARY`; None if there is none.
        records: the lines of `RECORDS`.
        verdicts: what rules did.
        stopped: whether it was ended early.
    """
    summary = summary or {}
    counted = [each for each in records if each["metadata"]["benchmark_phase"] == "profiling"]
    failed = [error for each in counted if (error := each.get("error") or _broken_stream(each))]
    return Result(
        load=load,
        distributions={
            metric.tag: {name: summary[metric.tag][name] for name in STATISTICS}
            for metric in DISTRIBUTIONS
            if metric.tag in summary
        },
        rates={metric.tag: summary[metric.tag]["avg"] for metric in RATES if metric.tag in summary},
        succeeded=len(counted) - len(failed),
        failed=len(failed),
        seconds=summary["benchmark_duration"]["avg"] if "benchmark_duration" in summary else None,
        complete=not stopped and not summary.get("was_cancelled", False),
        errors=_by_kind(failed),
        verdicts=verdicts,
    )


def _broken_stream(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The failure of a request whose stream ended with an error, which a stream of OpenAI's API has as data."""
    # workaround: W27
    if "usage_completion_tokens" in record["metrics"]:
        return None
    message = "the stream ended with an error or without `usage`; the server's log says why"
    return {"code": None, "type": "broken stream", "message": message}


def _by_kind(failed: Iterable[Mapping[str, Any]]) -> tuple[Errors, ...]:
    counts: collections.Counter[str] = collections.Counter()
    messages: dict[str, str] = {}
    for error in failed:
        kind, message = _kind(error)
        counts[kind] += 1
        messages.setdefault(kind, message)
    return tuple(Errors(kind, count, messages[kind]) for kind, count in counts.most_common())


def _kind(error: Mapping[str, Any]) -> tuple[str, str]:
    """The kind and the message of a failure; OpenAI's or Triton's body within AIPerf's message says more than the status."""
    status, name, message = error.get("code"), str(error.get("type")), str(error.get("message"))
    try:
        body = json.loads(message)["error"]
        if isinstance(body, str):
            # Triton's.
            problem = request_errors.parse(body)
            name, message = problem.code, problem.message
        else:
            name, message = body["code"] or body["type"], body["message"]
    except (ValueError, KeyError, TypeError):
        pass
    if quoted := _QUOTED.fullmatch(message):
        message = quoted[1]
    return f"{status} {name}" if status else name, message
