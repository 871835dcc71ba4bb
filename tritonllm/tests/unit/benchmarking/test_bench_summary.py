"""The summary of a sweep: it fits a termination message, says nothing that others wrote, and comes back as it was."""

from __future__ import annotations

import dataclasses

import pytest

import measured
from tritonllm.bench import results, summary

SAID = "the rule swearing blocked: what somebody wrote"


def point(concurrency: int) -> results.Result:
    errors = (results.Errors("400 content_filter" + "x" * 100, 2, SAID),)
    return dataclasses.replace(measured.result(concurrency=concurrency), failed=2, errors=errors)


def test_a_point_has_the_rate_the_percentiles_and_the_counts() -> None:
    result = measured.result(concurrency=16)
    found = summary.points(summary.text([result]))
    expected = {
        "concurrency": 16,
        "succeeded": result.succeeded,
        "failed": result.failed,
        "outputTokensPerSecond": pytest.approx(result.rates["output_token_throughput"], abs=0.1),
        "ttftP99Ms": pytest.approx(result.distributions["time_to_first_token"]["p99"], abs=0.1),
        "latencyP99Ms": pytest.approx(result.distributions["request_latency"]["p99"], abs=0.1),
    }
    assert found == [expected]


def test_errors_are_told_by_kind_and_never_by_their_message() -> None:
    text = summary.text([point(16)])
    assert "400 content_filter" in text
    assert "somebody" not in text


def test_the_most_points_fit_what_kubernetes_keeps() -> None:
    assert len(summary.text([point(1024)] * 8).encode()) < 4096


@pytest.mark.parametrize(
    "text",
    [
        "",
        "killed",
        "[]",
        '{"points": []}',
        '{"points": [1]}',
        '{"points": [{"concurrency": 1}]}',
        '{"points": [{"concurrency": 1, "succeeded": NaN, "failed": 0}]}',
        '{"points": [{"concurrency": 1, "succeeded": 1, "failed": 0, "ttftP99Ms": NaN}]}',
        '{"points": [{"concurrency": 1, "succeeded": -1, "failed": 0}]}',
        '{"points": [{"concurrency": 1, "succeeded": Infinity, "failed": 0}]}',
    ],
)
def test_another_message_is_no_result(text: str) -> None:
    assert summary.points(text) is None
