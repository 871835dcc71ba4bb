"""Sweeps: what is measured, kept and resumed, and what the points show together."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

import measured
from tritonllm.bench import curves, failures, folders, report, results, svg, sweep, workload

WANTED = {
    "target": "http://localhost:8080",
    "model": "chat",
    "slo": {"time_to_first_token": 500.0},
    "dataset": None,
}
POINTS = [workload.Point(concurrency=number, input_tokens=512, max_tokens=128) for number in (1, 2, 4, 8)]


class Measuring:
    """Measures points, and remembers which."""

    def __init__(self, change: Callable[[results.Result], results.Result] = lambda result: result) -> None:
        self.points: list[workload.Point] = []
        self._change = change

    def __call__(self, point: workload.Point, folder: Path) -> results.Result:
        self.points.append(point)
        result = self._change(measured.result(**point.described()))
        folder.mkdir(parents=True, exist_ok=True)
        folders.write_result(folder, result)
        return result


def run(folder: Path, measuring: Measuring, points: list[workload.Point] = POINTS) -> list[results.Result]:
    return sweep.run(folder, WANTED, points, measuring, lambda text: None)


def test_every_point_is_measured_and_has_a_row_and_a_place_in_the_report(tmp_path: Path) -> None:
    found = run(tmp_path, measuring := Measuring())
    assert measuring.points == POINTS
    with (tmp_path / sweep.TABLE).open() as lines:
        assert [row["concurrency"] for row in csv.DictReader(lines)] == ["1", "2", "4", "8"]
    assert "<h2>By concurrency</h2>" in (tmp_path / sweep.REPORT).read_text()
    assert [result.load["concurrency"] for result in found] == [1, 2, 4, 8]


def test_a_second_run_measures_only_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path, Measuring(), POINTS[:2])
    found = run(tmp_path, measuring := Measuring())
    assert measuring.points == POINTS[2:]
    assert len(found) == 4


def test_a_stopped_point_ends_the_sweep_and_is_measured_again(tmp_path: Path) -> None:
    def stopped(result: results.Result) -> results.Result:
        return dataclasses.replace(result, complete=result.load["concurrency"] != 4)

    assert [result.complete for result in run(tmp_path, Measuring(stopped))] == [True, True, False]
    run(tmp_path, measuring := Measuring())
    assert measuring.points == POINTS[2:]


def test_a_dead_server_ends_the_sweep_and_loses_nothing(tmp_path: Path) -> None:
    def dead(result: results.Result) -> results.Result:
        error = results.Errors("ClientConnectorError", 100, "Connection refused")
        return result if result.load["concurrency"] < 4 else dataclasses.replace(result, distributions={}, rates={}, succeeded=0, failed=100, errors=(error,))  # fmt: skip

    with pytest.raises(failures.BenchmarkFailed, match=r"3 of 4.*no request succeeded.*Connection refused"):
        run(tmp_path, Measuring(dead))
    with (tmp_path / sweep.TABLE).open() as lines:
        assert [row["concurrency"] for row in csv.DictReader(lines)] == ["1", "2"]
    run(tmp_path, measuring := Measuring())
    assert measuring.points == POINTS[2:]


def test_a_point_in_which_the_server_died_is_measured_again_and_one_with_refused_prompts_is_not(
    tmp_path: Path,
) -> None:
    kinds = {1: "400 content_filter", 2: "ServerDisconnectedError"}

    def failed(result: results.Result) -> results.Result:
        kind = kinds.get(result.load["concurrency"])
        return (
            dataclasses.replace(result, failed=1, errors=(results.Errors(kind, 1, "No"),)) if kind else result
        )

    run(tmp_path, Measuring(failed))
    run(tmp_path, measuring := Measuring())
    assert measuring.points == POINTS[1:2]


def test_a_folder_keeps_one_sweep_apart_from_another(tmp_path: Path) -> None:
    sweep.claim(tmp_path, WANTED)
    sweep.claim(tmp_path, WANTED)
    with pytest.raises(failures.InvalidBenchmark, match="another model, slo"):
        sweep.claim(tmp_path, WANTED | {"model": "code", "slo": {}})


def test_a_folder_of_one_measurement_is_not_taken(tmp_path: Path) -> None:
    folders.write_result(tmp_path, measured.result(1))
    with pytest.raises(failures.InvalidBenchmark, match="one measurement"):
        sweep.claim(tmp_path, WANTED)


def test_other_prompts_are_another_sweep(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    digests = set()
    for text in ("a", "b"):
        prompts.write_text(text)
        asked = workload.Workload(dataset=prompts)
        digests.add(sweep.settings("url", "chat", "builtin", asked)["dataset"])
    assert len(digests) == 2


def test_saturation_is_the_least_load_with_nearly_the_best_throughput() -> None:
    line = [measured.result(2**n) for n in range(9)]
    point = curves.saturation(line)
    assert point is not None
    assert point.load["concurrency"] == measured.SLOTS


def test_throughput_that_still_grows_is_no_saturation() -> None:
    assert curves.saturation([measured.result(2**n) for n in range(5)]) is None
    assert curves.saturation([measured.result(1)]) is None


def test_the_pareto_front_is_what_no_other_point_beats() -> None:
    points = [(10, 100), (20, 150), (15, 90), (30, 150), (10, 80), (40, 200)]
    assert curves.pareto(points) == [(10, 100), (20, 150), (40, 200)]


def test_each_axis_has_a_line_for_every_value_of_the_others() -> None:
    found = [measured.result(c, max_tokens=m) for m in (16, 32) for c in (8, 1)]
    assert curves.varying(found) == ["concurrency", "max_tokens"]
    lines = curves.series(found, "concurrency")
    assert list(lines) == ["max tokens 16", "max tokens 32"]
    assert [result.load["concurrency"] for result in lines["max tokens 16"]] == [1, 8]


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (7, [0, 2, 4, 6, 8]),
        (100, [0, 20, 40, 60, 80, 100]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round_numbers(high: float, expected: list[float]) -> None:
    found = svg.ticks(0, high)
    assert found[0] == 0
    assert found[-1] >= high
    assert len(found) <= 7
    if high != 0:
        assert found == expected


class _Structure(html.parser.HTMLParser):
    """Which elements are open at the end, and everything that would be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_well_formed_and_loads_nothing() -> None:
    found = _Structure(report.to_html("Sweep", {}, [measured.result(2**n) for n in range(8)]))
    assert found.open == []
    assert found.loaded == []


def test_names_in_the_report_are_text() -> None:
    assert "<script" not in report.to_html("<script>", {"target": "<script>"}, [measured.result(1)])


def test_a_report_marks_where_the_server_saturates() -> None:
    text = report.to_html("Sweep", {}, [measured.result(2**n) for n in range(8)])
    assert "saturated at 32" in text


def test_a_report_of_one_point_or_of_no_answer_is_a_report() -> None:
    nothing = results.parse({"concurrency": 1}, None, [], None)
    assert "No request was answered" in report.to_html("Sweep", {}, [nothing])
    assert "<svg" in report.to_html("Sweep", {}, [measured.result(1), nothing])
    assert "<svg" in report.to_html("Sweep", {}, [measured.result(request_rate=2)])


def test_each_chart_of_the_report_is_a_picture_with_its_lines_and_mark(tmp_path: Path) -> None:
    line = [measured.result(2**n) for n in range(8)]
    sweep.write_pictures(tmp_path, [*line, results.parse({"concurrency": 1}, None, [], None)])
    names = {file.name for file in (tmp_path / "png").iterdir()}
    assert names == {
        f"{name}.png"
        for name in (
            "concurrency-ttft-ms",
            "concurrency-itl-ms",
            "concurrency-latency-ms",
            "concurrency-output-tokens-per-s",
            "throughput-itl-ms",
            "throughput-latency-ms",
        )
    }
    throughput = (tmp_path / "png/concurrency-output-tokens-per-s.png").read_bytes()
    with PIL.Image.open(io.BytesIO(throughput)) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(0x0B, 0x62, 0xC4), (0xB3, 0x26, 0x1E)} <= colours


def test_pictures_of_an_earlier_run_with_other_axes_are_removed(tmp_path: Path) -> None:
    sweep.write_pictures(tmp_path, [measured.result(request_rate=rate) for rate in (2.0, 5.0)])
    sweep.write_pictures(tmp_path, [])
    assert not list((tmp_path / "png").iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    folders.write(tmp_path / "sweep.csv", "before")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*sweep\.csv'"):
        folders.write(tmp_path / "sweep.csv", "after")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
