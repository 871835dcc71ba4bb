"""What the guardrail rules did during a measurement: the difference of an endpoint's counters before and after it."""

from __future__ import annotations

import collections
from collections.abc import Mapping

from prometheus_client import parser

from tritonllm.bench import results
from tritonllm.runtime import metric_names

_Key = tuple[str, str, str]


def counts(exposition: str, endpoint: str) -> Mapping[_Key, int]:
    """Matches by rule, direction and action.

    Args:
        exposition: what Triton's `/metrics` answers.
        endpoint: name of the endpoint.

    Raises:
        ValueError: the text is not in Prometheus' format.
    """
    found: collections.Counter[_Key] = collections.Counter()
    for family in parser.text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == metric_names.VERDICTS and sample.labels.get("endpoint") == endpoint:
                labels = sample.labels
                found[labels["rule"], labels["direction"], labels["action"]] += int(sample.value)
    return found


def between(before: Mapping[_Key, int], after: Mapping[_Key, int]) -> tuple[results.Verdict, ...]:
    """The verdicts that came in between, by rule and direction; rules that did nothing are left out."""
    return tuple(
        results.Verdict(*key, after[key] - before.get(key, 0))
        for key in sorted(after)
        if after[key] > before.get(key, 0)
    )
