"""AIPerf's command lines, whole, as files that a reviewer can read."""

from __future__ import annotations

import json
import pathlib

import pytest

from tritonllm.bench import aiperf, failures, workload
from tritonllm.bench.workload import Api, Point, Target, Workload

HERE = pathlib.Path(__file__).parent
TARGET = Target("http://localhost:8080", "chat", "/weights/smollm2")

CASES = {
    "closed-loop": (Workload(), Point(concurrency=64)),
    "open-loop": (Workload(), Point(request_rate=2.5)),
    "open-loop-with-a-limit": (Workload(), Point(request_rate=10, concurrency=100)),
    "completions-with-objectives": (
        Workload(api=Api.completions, slo={"time_to_first_token": 500, "inter_token_latency": 50}),
        Point(concurrency=4, input_tokens=100, max_tokens=32),
    ),
    "a-file-of-prompts": (
        Workload(dataset=pathlib.Path("/runs/1/prompts.jsonl"), ignore_eos=False, requests=200, warmup=0),
        Point(concurrency=8),
    ),
    "tritons-own-api": (
        Workload(api=Api.triton, extra={"temperature": 0}),
        Point(concurrency=4, input_tokens=100, max_tokens=32),
    ),
    "by-duration": (
        Workload(duration=60, extra={"temperature": 0, "stop": ["\n\n"]}, seed=7, timeout=30),
        Point(concurrency=1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_is_as_recorded(name: str, request: pytest.FixtureRequest) -> None:
    asked, point = CASES[name]
    arguments = aiperf.command(
        "aiperf",
        TARGET,
        asked,
        workload.with_defaults(point, asked),
        pathlib.Path("/runs/1/aiperf"),
        progress=False,
    )
    found = "\n".join(arguments) + "\n"
    expected = HERE / "commands" / f"{name}.txt"
    if request.config.getoption("--golden-update"):
        expected.parent.mkdir(exist_ok=True)
        expected.write_text(found)
    assert found == expected.read_text(), "if this change is wanted: pytest --golden-update"


def test_progress_is_shown_on_request_only() -> None:
    for progress, kind in ((True, "simple"), (False, "none")):
        arguments = aiperf.command("aiperf", TARGET, Workload(), Point(concurrency=1), pathlib.Path("/x"), progress=progress)  # fmt: skip
        assert arguments[arguments.index("--ui-type") + 1] == kind


def test_a_directory_is_not_taken_for_a_repository_of_an_offline_hub() -> None:
    offline = {"HF_HUB_OFFLINE": "1", "PATH": "/bin"}
    assert aiperf.environment(offline, "/weights/smollm2") == {"PATH": "/bin"}
    assert aiperf.environment(offline, "org/model") == offline


def test_the_api_key_is_in_the_environment_and_a_file_refers_to_it() -> None:
    key = {"OPENAI_API_KEY": "sk-secret"}
    assert aiperf.environment(key, "builtin") == key
    asked, file = Workload(), pathlib.Path("/runs/1/aiperf.yaml")
    point = workload.with_defaults(Point(concurrency=64), asked)
    arguments = aiperf.command(
        "aiperf", TARGET, asked, point, pathlib.Path("/x"), progress=False, config=file
    )
    assert arguments[1:4] == ["profile", "--config", str(file)]
    assert json.loads(aiperf.config(asked, point)) == {
        "benchmark": {
            "endpoint": {"api_key": "${OPENAI_API_KEY}"},
            "datasets": [{"name": "main", "type": "synthetic"}],
            "phases": [{"name": "profiling", "type": "concurrency", "concurrency": 64, "requests": 640}],
        }
    }


def test_a_file_that_refers_to_the_api_key_has_the_prompts_and_the_end_of_the_command_line() -> None:
    asked = Workload(dataset=pathlib.Path("/runs/1/prompts.jsonl"), duration=60)
    found = json.loads(aiperf.config(asked, Point(request_rate=2.5, concurrency=8)))["benchmark"]
    assert found["datasets"] == [
        {"name": "main", "type": "file", "path": "/runs/1/prompts.jsonl", "format": "single_turn"}
    ]
    # More than one end would be the first of them.
    load = {"type": "poisson", "concurrency": 8, "rate": 2.5, "duration": 60}
    assert found["phases"] == [{"name": "profiling"} | load]


def test_more_streams_send_more_requests() -> None:
    assert workload.requests(Workload(), Point(concurrency=1)) == 50
    assert workload.requests(Workload(), Point(concurrency=256)) == 2560
    assert workload.requests(Workload(), Point(request_rate=10)) == 300


def test_the_first_prompts_of_a_dataset_are_sent_once_each() -> None:
    asked = Workload(dataset=pathlib.Path("prompts.jsonl"))
    point = workload.with_defaults(Point(concurrency=64, dataset_entries=300), asked)
    assert workload.requests(asked, point) == 300
    with pytest.raises(failures.InvalidBenchmark, match="--dataset-entries: needs --dataset"):
        workload.with_defaults(Point(dataset_entries=300), Workload())


def test_a_dataset_and_a_length_of_prompts_exclude_each_other() -> None:
    asked = Workload(dataset=pathlib.Path("prompts.jsonl"))
    with pytest.raises(failures.InvalidBenchmark, match="--input-tokens"):
        workload.with_defaults(Point(input_tokens=100), asked)


LOG = """\
08:55:57.134 INFO     Configuring tokenizer(s) for dataset manager (dataset_manager.py:271)
08:55:58.342 ERROR    Dataset configuration failed: {} (dataset_manager.py:193)
Traceback (most recent call last):
08:55:58.351 ERROR    Failed for SystemController (aiperf_lifecycle_mixin.py:354)
"""


@pytest.mark.parametrize(
    "said",
    [
        "TokenizerError(\"Failed to load tokenizer 'org/name': OSError: not in the cache, or unset HF_HUB_OFFLINE.\")",
        "ConnectionError('Max retries exceeded with url: /encodings/o200k_base.tiktoken')",
    ],
)
def test_a_tokenizer_that_cannot_be_loaded_is_a_sentence_with_what_to_do(said: str) -> None:
    assert aiperf.reason(LOG.format(said), "org/name") == (
        "the tokenizer `org/name` cannot be loaded, so name the directory of one by --tokenizer"
        f" (Dataset configuration failed: {said})"
    )


def test_why_a_load_generator_has_no_result_is_its_first_error() -> None:
    assert aiperf.reason(LOG.format("disk full"), "builtin") == "Dataset configuration failed: disk full"
    assert aiperf.reason("08:55:57.134 INFO     fine\n", "builtin") == ""
