"""What is read from AIPerf's files, recorded from a run of AIPerf 0.13, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from typing import Any

import pytest

from tritonllm.bench import failures, folders, results, tables, verdicts
from tritonllm.bench.results import Errors, Result, Verdict

RECORDED = pathlib.Path(__file__).parent / "recorded"
LOAD = {"concurrency": 4, "input_tokens": 30, "max_tokens": 16}


def summary() -> dict[str, Any]:
    return json.loads((RECORDED / results.SUMMARY).read_text())


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDED / results.RECORDS).read_text().splitlines()]


@pytest.fixture
def result() -> Result:
    return results.parse(LOAD, summary(), records(), (Verdict("words", "output", "Mask", 2),))


def test_a_result_has_statistics_of_every_metric(result: Result) -> None:
    assert set(result.distributions) == {metric.tag for metric in results.DISTRIBUTIONS}
    assert set(result.rates) == {metric.tag for metric in results.RATES}
    assert all(tuple(found) == results.STATISTICS for found in result.distributions.values())
    assert result.complete


def test_requests_of_the_warm_up_do_not_count(result: Result) -> None:
    assert (result.succeeded, result.failed) == (3, 2)


def test_failed_requests_are_counted_by_status_and_code(result: Result) -> None:
    assert result.errors == (
        Errors("404 model_not_found", 2, "model: the endpoint nosuch does not exist or is not loaded"),
    )


def test_a_failure_without_an_answer_is_counted_by_its_type() -> None:
    lost = {"metadata": {"benchmark_phase": "profiling"}, "error": {"code": None, "type": "ServerDisconnectedError", "message": "Server disconnected"}}  # fmt: skip
    found = results.parse(LOAD, None, [lost], None)
    assert found.errors == (Errors("ServerDisconnectedError", 1, "Server disconnected"),)


def test_an_exception_of_the_load_generator_is_told_in_words() -> None:
    message = "ClientConnectorError(ConnectionKey(host='::1', ssl=True), ConnectionRefusedError(111, \"Connect call failed ('::1', 80)\"))"
    lost = {"metadata": {"benchmark_phase": "profiling"}, "error": {"code": None, "type": "ClientConnectorError", "message": message}}  # fmt: skip
    assert results.parse(LOAD, None, [lost], None).errors[0].message == "Connect call failed ('::1', 80)"


def test_a_stream_that_ended_with_an_error_is_a_failure() -> None:
    broken = {"metadata": {"benchmark_phase": "profiling"}, "metrics": {"time_to_first_token": {"value": 50}}}
    found = results.parse(LOAD, None, [broken], None)
    assert (found.succeeded, found.failed, found.errors[0].kind) == (0, 1, "broken stream")


def test_without_a_summary_the_requests_still_count() -> None:
    found = results.parse(LOAD, None, records(), None, stopped=True)
    assert (found.succeeded, found.failed, found.complete) == (3, 2, False)


def test_a_stopped_run_is_not_complete() -> None:
    found = results.parse(LOAD, summary() | {"was_cancelled": True}, records(), None)
    assert not found.complete
    assert "Stopped before the end" in tables.summary(found)


def test_a_result_is_read_as_it_was_written(result: Result, tmp_path: pathlib.Path) -> None:
    folders.write_result(tmp_path, result)
    assert folders.read_result(tmp_path) == result


def test_a_file_that_is_no_result_is_named(tmp_path: pathlib.Path) -> None:
    assert folders.read_result(tmp_path) is None
    (tmp_path / folders.RESULT).write_text("{}")
    with pytest.raises(failures.InvalidBenchmark, match=r"result\.json is not a result"):
        folders.read_result(tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path: pathlib.Path) -> None:
    with folders.locked(tmp_path), pytest.raises(failures.BenchmarkFailed, match="another run"), folders.locked(tmp_path):  # fmt: skip
        pass
    with folders.locked(tmp_path):
        pass


def test_the_table_is_as_recorded(result: Result, request: pytest.FixtureRequest) -> None:
    expected = RECORDED / "table.txt"
    found = tables.summary(result) + "\n"
    if request.config.getoption("--golden-update"):
        expected.write_text(found)
    assert found == expected.read_text(), "if this change is wanted: pytest --golden-update"


def test_csv_has_a_row_per_measurement_and_leaves_out_what_was_not_measured(result: Result) -> None:
    failed = results.parse(LOAD, None, [], None)
    rows = list(csv.DictReader(io.StringIO(tables.to_csv([result, failed]))))
    assert [row["concurrency"] for row in rows] == ["4", "4"]
    assert float(rows[0]["ttft_ms_p99"]) == result.distributions["time_to_first_token"]["p99"]
    assert rows[1]["ttft_ms_p99"] == ""
    assert rows[0]["request_rate"] == ""


def test_what_rules_did_is_the_difference_of_their_counters() -> None:
    def exposition(masked: int, blocked: int) -> str:
        return (
            "# TYPE tritonllm_verdicts_total counter\n"
            f'tritonllm_verdicts_total{{action="Mask",direction="output",endpoint="chat",rule="words"}} {masked}\n'
            f'tritonllm_verdicts_total{{action="Block",direction="input",endpoint="chat",rule="cards"}} {blocked}\n'
            'tritonllm_verdicts_total{action="Mask",direction="output",endpoint="other",rule="words"} 99\n'
        )

    before, after = (verdicts.counts(exposition(*given), "chat") for given in ((5, 1), (8, 1)))
    assert verdicts.between(before, after) == (Verdict("words", "output", "Mask", 3),)
