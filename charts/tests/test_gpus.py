"""Chart and operator agree about which engines fit on the GPUs of a pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import chart
from tritonllm_operator import accept
from worlds import resource, stable

MORE = {"sharedMemory": "8Gi", "resources": {"limits": {"memory": "256Gi"}}}
FITS: list[tuple[int, dict[str, dict[str, Any]]]] = [
    (1, {"a": {}}),
    (8, {"a": {"data_parallel_size": 8}}),
    (8, {"a": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "data_parallel_size": 2}}),
    (1, {"a": {"gpu_memory_utilization": 0.5}, "b": {"gpu_memory_utilization": 0.5}}),
    (2, {"a": {"device_ids": [0]}, "b": {"device_ids": [1]}}),
    (4, {"a": {"tensor_parallel_size": 2, "device_ids": [2, 3]}, "b": {"tensor_parallel_size": 2}}),
    (
        4,
        {
            "a": {"tensor_parallel_size": 4, "gpu_memory_utilization": 0.7},
            "b": {"gpu_memory_utilization": 0.3},
        },
    ),
]
DOES_NOT: list[tuple[int, dict[str, dict[str, Any]], str]] = [
    (1, {"a": {"data_parallel_size": 8}}, "8 GPUs"),
    (2, {"a": {"tensor_parallel_size": 2, "data_parallel_size": 2}}, "4 GPUs"),
    (2, {"a": {"device_ids": [2]}}, "3 GPUs"),
    (2, {"a": {}, "b": {}}, "GPU 0"),
    (2, {"a": {"device_ids": [1]}, "b": {"tensor_parallel_size": 2}}, "GPU 1"),
]


def refusals(count: int, engines: dict[str, dict[str, Any]]) -> list[str]:
    """What the operator says about endpoints with these arguments."""
    found = [
        resource(name, model={"repo": "org/name"}, engine={"args": args}) for name, args in engines.items()
    ]
    judged = accept.judge(replace(stable(gpus=count), endpoints=found), {})
    return [each.refusal.message for each in judged if each.refusal]


def rendered(count: int, engines: dict[str, dict[str, Any]]) -> list[chart.Document]:
    endpoints = [chart.endpoint(name, engine={"args": args}) for name, args in engines.items()]
    return chart.render(MORE | {"gpu": {"count": count}, "endpoints": endpoints})


@pytest.mark.parametrize(("count", "engines"), FITS)
def test_what_fits_is_taken_by_both(count: int, engines: dict[str, dict[str, Any]]) -> None:
    assert rendered(count, engines)
    assert refusals(count, engines) == []


@pytest.mark.parametrize(("count", "engines", "said"), DOES_NOT)
def test_what_does_not_fit_is_refused_by_both(
    count: int, engines: dict[str, dict[str, Any]], said: str
) -> None:
    with pytest.raises(chart.Refused, match=said):
        rendered(count, engines)
    assert any(said in message for message in refusals(count, engines))


def test_every_rank_has_a_device() -> None:
    engines = {"a": {"tensor_parallel_size": 2, "device_ids": [0]}}
    with pytest.raises(chart.Refused, match=r"a runs on 2 GPUs, but engine\.args\.device_ids has 1"):
        rendered(2, engines)
    (message,) = refusals(2, engines)
    assert "`args.device_ids` has 1 GPUs, and the engine uses 2" in message


def test_gpus_that_no_engine_uses_are_refused_unless_the_operator_can_add_one() -> None:
    with pytest.raises(chart.Refused, match="endpoints use 1 of the 2 GPUs of each pod"):
        rendered(2, {"a": {}})
    values = {"operator": {"enabled": True}, "gpu": {"count": 2}, "endpoints": [chart.endpoint("a")]}
    assert chart.render(MORE | values)
