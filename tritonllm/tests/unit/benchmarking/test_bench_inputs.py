"""What people write on the command line and in files of prompts."""

from __future__ import annotations

import json

import pytest

from tritonllm.bench import axes, dataset, failures, slo, targets, workload


def test_objectives_are_milliseconds_by_metric() -> None:
    assert slo.parse("ttft=500ms,itl=50ms") == {"time_to_first_token": 500, "inter_token_latency": 50}
    assert slo.parse("latency=1.5s, tpot=20ms") == {"request_latency": 1500, "inter_token_latency": 20}


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft=500", "ttft=-1ms", "tfft=5ms", "ttft=0ms", "itl=1ms,tpot=2ms"]
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(failures.InvalidBenchmark, match=r"objective"):
        slo.parse(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", (8,)),
        ("1:256", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ("1:100", (1, 2, 4, 8, 16, 32, 64, 100)),
        ("10:60:10", (10, 20, 30, 40, 50, 60)),
        ("10:35:10", (10, 20, 30)),
        ("0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("400,100,200,100", (100, 200, 400)),
        ("1:4,6", (1, 2, 4, 6)),
    ],
)
def test_an_axis_is_a_list_or_a_range(text: str, values: tuple[float, ...]) -> None:
    assert axes.numbers(text, "--request-rate") == values


@pytest.mark.parametrize(
    "text", ["", "a", "0", "0:8", "8:1", "1:8:0", "1:2:3:4", "1,,2", "-1", "1:1000000:0.1", "1e3"]
)
def test_what_is_no_axis_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(failures.InvalidBenchmark, match=r"^--concurrency"):
        axes.numbers(text, "--concurrency")


def test_streams_and_tokens_are_whole_numbers() -> None:
    assert axes.whole_numbers("1:4", "--concurrency") == (1, 2, 4)
    with pytest.raises(failures.InvalidBenchmark, match=r"1\.5 is not a whole number"):
        axes.whole_numbers("1.5", "--concurrency")


def test_several_axes_make_a_grid() -> None:
    points = axes.grid({"concurrency": (1, 2), "max_tokens": (16, 32)})
    assert points == [workload.Point(concurrency=c, max_tokens=m) for m in (16, 32) for c in (1, 2)]


def test_a_grid_that_would_take_days_is_refused() -> None:
    with pytest.raises(failures.InvalidBenchmark, match="1600 points"):
        axes.grid({"concurrency": range(1, 41), "input_tokens": range(1, 41)})


def test_prompts_come_in_the_shapes_that_people_have() -> None:
    lines = [
        '{"prompt": "Hello"}\n',
        "\n",
        '{"text": "Hi", "max_tokens": 5}',
        json.dumps({"input": "An article.", "instruction": "Summarize.", "output": "Short."}),
        json.dumps({"input": "", "instruction": "Tell a story.", "output": "Once."}),
    ]
    assert list(dataset.converted(lines, "prompts.jsonl")) == [
        {"text": "Hello"},
        {"text": "Hi", "output_length": 5},
        {"text": "Summarize.\n\nAn article."},
        {"text": "Tell a story."},
    ]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '"text"', '{"prompt": ""}', '{"instruction": 5}', '{"prompt": "a", "max_tokens": 0}', '{"prompt": "a", "max_tokens": true}'],
)  # fmt: skip
def test_a_broken_line_is_named_with_its_number(line: str) -> None:
    with pytest.raises(failures.InvalidBenchmark, match=r"^prompts\.jsonl:2: "):
        list(dataset.converted(['{"prompt": "fine"}', line], "prompts.jsonl"))


def test_an_empty_file_has_no_prompts() -> None:
    with pytest.raises(failures.InvalidBenchmark, match="has no prompts"):
        list(dataset.converted(["\n"], "prompts.jsonl"))


def test_the_only_model_needs_no_name() -> None:
    assert targets.chosen(None, ["chat"], "URL") == "chat"
    assert targets.chosen("code", ["chat", "code"], "URL") == "code"


@pytest.mark.parametrize(("model", "names"), [(None, ["a", "b"]), (None, []), ("c", ["a", "b"])])
def test_a_model_that_is_not_there_is_refused_with_those_that_are(
    model: str | None, names: list[str]
) -> None:
    with pytest.raises(failures.InvalidBenchmark, match=", ".join(names) or "none"):
        targets.chosen(model, names, "URL")
