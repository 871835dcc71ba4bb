"""What GPUs did during a measurement."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import threading

import pytest

import measured
from tritonllm.bench import gpu_use, results, tables

GIB = 1 << 30
USE = results.GpuUse(2, 550.0, 70.0, 75.0)


def test_gpus_are_added_up_over_the_samples() -> None:
    samples = [
        [gpu_use.Reading(300, 30 * GIB, 50), gpu_use.Reading(200, 30 * GIB, 100)],
        [gpu_use.Reading(400, 40 * GIB, 50), gpu_use.Reading(200, 30 * GIB, 100)],
    ]
    assert gpu_use.summed(samples) == USE
    assert gpu_use.summed([]) is None


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    samples = [[gpu_use.Reading(None, 3 * GIB, None)]]
    assert gpu_use.summed(samples) == results.GpuUse(1, None, 3.0, None)


def test_samples_are_taken_while_the_block_runs() -> None:
    enough = threading.Event()
    taken: list[int] = []

    def read() -> list[gpu_use.Reading]:
        taken.append(1)
        if len(taken) == 3:
            enough.set()
        return [gpu_use.Reading(100, GIB, 10)]

    with gpu_use.Sampler(read, seconds=0) as sampler:
        assert enough.wait(20)
    count = len(taken)
    assert sampler.use() == results.GpuUse(1, 100, 1, 10)
    assert len(taken) == count


def test_a_machine_without_a_driver_has_nothing_to_sample() -> None:
    with gpu_use.nvml() as read:
        assert read is None or read()


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("http://10.0.0.1:8080", False),
        ("https://llm.example.com", False),
    ],
)
def test_only_gpus_of_this_machine_are_sampled(url: str, local: bool) -> None:
    assert gpu_use.is_local(url) is local


def test_gpus_are_in_the_table_the_columns_and_the_file() -> None:
    result = dataclasses.replace(measured.result(1), gpu=USE)
    assert "2 GPUs: 550 W on average, 70 GiB at most, 75 % busy" in tables.summary(result)
    (row,) = csv.DictReader(io.StringIO(tables.to_csv([result])))
    assert row["gpu_power_w_avg"] == "550.0"
    assert results.decoded(json.loads(json.dumps(result.encoded()))).gpu == USE


def test_a_result_of_an_older_version_has_no_gpus() -> None:
    kept = json.loads(json.dumps(measured.result(1).encoded()))
    del kept["gpu"]
    assert results.decoded(kept).gpu is None
