import math

import pytest

import report
from client import Sample


def sample(started: float, ended: float, **fields: object) -> Sample:
    return Sample(started, ended, **fields)  # pyright: ignore[reportArgumentType]


def turn(rate: float, first: float = 10, cpu: dict[str, float] | None = None) -> report.Turn:
    return report.Turn(
        tokens_per_second=rate,
        first_text_p50_ms=first,
        first_text_p99_ms=2 * first,
        gap_p50_ms=1,
        gap_p99_ms=2,
        gap_max_ms=3,
        events_per_request=60,
        cpu_us_per_token={} if cpu is None else cpu,
        client_cpu_us_per_token=5,
    )


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [report.quantile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert report.quantile([3, 1, 2], 0.5) == 2
    assert report.quantile([], 0.5) == 0


def test_a_turn_lasts_from_the_first_process_that_begins_to_the_last_that_ends() -> None:
    samples = [
        sample(10, 12, first_texts=[0.1], gaps=[0.01, 0.03], texts=3, answers=1, cpu_seconds=0.001),
        sample(11, 14, first_texts=[0.3], gaps=[0.02], texts=5, answers=1, cpu_seconds=0.003),
    ]
    result = report.turn(samples, 8, {"engine": 0.016})
    assert result.tokens_per_second == 2 * 8 / 4
    assert (result.first_text_p50_ms, result.first_text_p99_ms) == (100, 300)
    assert (result.gap_p50_ms, result.gap_max_ms) == (20, 30)
    assert result.events_per_request == 4
    assert result.cpu_us_per_token == {"engine": pytest.approx(1000)}
    assert math.isclose(result.client_cpu_us_per_token, 250)


def test_the_ratio_is_the_median_of_the_turns_own_ratios() -> None:
    step = report.step(8, "ours", [turn(90), turn(50), turn(80)], "base", [turn(100), turn(100), turn(100)])
    assert (step["ratio"], step["ratio_min"], step["ratio_max"]) == (0.8, 0.5, 0.9)
    # The machine was twice as fast in the second turn; the medians of the rates alone would say 1.
    step = report.step(8, "ours", [turn(80), turn(160), turn(80)], "base", [turn(100), turn(200), turn(50)])
    assert step["ratio"] == 0.8


def test_a_step_compares_first_texts_and_keeps_what_belongs_to_the_base_apart() -> None:
    step = report.step(
        8, "ours", [turn(90, 5, {"engine": 1})], "base", [turn(100, 20, {"server": 2, "core": 3})]
    )
    assert step["first_text_ratio"] == 0.25
    assert (step["first_text_p50_ms"], step["base_first_text_p50_ms"]) == (5, 20)
    assert (step["cpu_us_per_token"], step["base_cpu_us_per_token"]) == (
        {"engine": 1},
        {"server": 2, "core": 3},
    )
    assert step["turns"][0]["tokens_per_second"] == 90


def test_cpu_time_of_a_process_that_was_not_in_every_turn_counts_as_none_there() -> None:
    turns = [turn(1, cpu={"engine": 4}), turn(1, cpu={"engine": 6, "core": 2}), turn(1, cpu={"engine": 5})]
    assert report.median(turns).cpu_us_per_token == {"engine": 5, "core": 0}


def test_every_row_has_the_columns_of_the_head() -> None:
    columns = report.HEAD.splitlines()[0].count("|")
    ours = report.row(64, "ours", [turn(90, cpu={"engine": 7, "core": 8})], [turn(100)])
    base = report.row(64, "base", [turn(100)])
    other = report.ratio_row(report.step(64, "ours", [turn(90)], "other", [turn(100)]))
    rows = (report.HEAD.splitlines()[1], ours, base, other)
    assert {row.count("|") for row in rows} == {columns}
    assert "| ours to other |  | 0.90 (0.90 to 0.90) |" in other
    assert "| 0.90 (0.90 to 0.90) |" in ours
    assert "engine 7, core 8: 15" in ours
