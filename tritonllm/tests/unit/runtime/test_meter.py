"""What Triton does not take at once is reported later, and no failure ends the reporting."""

from __future__ import annotations

import pytest

import fake_backend_utils
from tritonllm.runtime import metric_names, metrics


def value(name: str) -> float:
    return fake_backend_utils.MetricFamily.made[name][-1].value


def test_a_gauge_is_right_again_after_triton_refused_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = metrics.Meter("chat", metric_names.PIPELINE, {})
    monkeypatch.setattr(fake_backend_utils.Metric, "failures", 1)
    meter.add(metric_names.RUNNING, 2)
    meter._flush()
    meter.add(metric_names.RUNNING, -1)
    meter._flush()
    meter.close()
    assert value(metric_names.RUNNING) == 1


def test_every_family_is_there_before_the_first_request() -> None:
    metrics.Meter("chat", metric_names.PIPELINE, {}).close()
    assert {family.name for family in metric_names.PIPELINE} <= set(fake_backend_utils.MetricFamily.made)
