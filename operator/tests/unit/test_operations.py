"""Whoever is on call finds every reason of a condition, and every metric, in docs/operations.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import prometheus_client

import tritonllm_operator
from tritonllm_operator import events, metrics

ROOT = Path(__file__).parents[3]
# What makes a reason, and which of its arguments that is.
_MAKERS = {"Trouble": 0, "refused": 0, "Condition": 1}


def reasons() -> Iterator[str]:
    (sources,) = tritonllm_operator.__path__
    for file in Path(sources).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            maker = getattr(getattr(node, "func", None), "id", "")
            if isinstance(node, ast.Call) and maker in _MAKERS:
                for found in ast.walk(node.args[_MAKERS[maker]]):
                    if isinstance(found, ast.Constant) and str(found.value)[:1].isupper():
                        yield str(found.value)


def test_every_reason_of_a_condition_is_explained() -> None:
    (section,) = re.findall(
        r"^\| reason \| meaning.*?\n\n", (ROOT / "docs/operations.md").read_text(), re.M | re.S
    )
    explained = {
        word for row in section.strip().splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    words = {*reasons(), *events.UNDER_WAY}
    assert {"RolledBack", "MemoryBudget", "ServingFormerVersion", "Unreachable"} <= words
    assert words <= explained, f"not in docs/operations.md: {words - explained}"
    assert explained <= words, f"nobody says so any more: {explained - words}"


def test_every_metric_that_is_named_exists() -> None:
    known = {
        sample
        for metric in vars(metrics).values()
        if isinstance(metric, prometheus_client.metrics.MetricWrapperBase)
        for family in metric.describe()
        for sample in (family.name, f"{family.name}_total")
    }
    named = set(re.findall(r"\btritonllm_operator_\w+", (ROOT / "docs/operations.md").read_text()))
    assert named
    assert named <= known, f"nobody exports {named - known}"
