"""One load measured several times."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

import measured
from tritonllm.bench import failures, folders, repeats, results


class Measuring:
    """Measures ever slower, and remembers what."""

    def __init__(self, stop_at: int = 100) -> None:
        self.numbers: list[int] = []
        self._stop_at = stop_at

    def __call__(self, number: int, folder: Path) -> results.Result:
        self.numbers.append(number)
        rates = {"output_token_throughput": 100.0 - 10 * number}
        result = dataclasses.replace(measured.result(8), rates=rates, complete=number < self._stop_at)
        folder.mkdir(parents=True)
        folders.write_result(folder, result)
        return result


def run(folder: Path, measuring: Measuring, count: int = 3) -> list[results.Result]:
    return repeats.run(folder, count, measuring, lambda text: None)


def test_the_spread_is_the_standard_deviation_in_percent_of_the_mean(tmp_path: Path) -> None:
    found = run(tmp_path, Measuring())
    lines = repeats.text(found).splitlines()
    throughput = next(line for line in lines if line.startswith("Output token throughput"))
    assert throughput.split()[-4:] == ["90", "11.1%", "80", "100"]
    assert lines[-1] == "3 measurements, 0 requests failed"
    with (tmp_path / repeats.TABLE).open() as rows:
        assert [row["output_tokens_per_s"] for row in csv.DictReader(rows)] == ["100.0", "90.0", "80.0"]


def test_what_the_folder_has_is_not_measured_again(tmp_path: Path) -> None:
    run(tmp_path, Measuring(), 2)
    found = run(tmp_path, measuring := Measuring(), 4)
    assert (measuring.numbers, len(found)) == ([2, 3], 4)


def test_ctrl_c_keeps_those_before(tmp_path: Path) -> None:
    found = run(tmp_path, Measuring(stop_at=1))
    assert [result.complete for result in found] == [True, False]
    assert "2 measurements" in repeats.text(found)


def test_no_answer_ends_it(tmp_path: Path) -> None:
    dead = results.parse({}, None, [], None)
    with pytest.raises(failures.BenchmarkFailed, match="1 of 3: no request succeeded"):
        repeats.run(tmp_path, 3, lambda number, folder: dead, lambda text: None)
