"""`tritonllm bench` with the real AIPerf, against the simulated engine in the real tritonserver; small.

Skipped where AIPerf is not installed; `make test` installs it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import chat_tokenizers
from integration import server
from tritonllm import files
from tritonllm.bench import answers, failures, targets, workload

pytestmark = [
    pytest.mark.skipif(
        shutil.which(os.environ.get("TRITONLLM_AIPERF") or "aiperf") is None,
        reason="AIPerf is not installed (make aiperf)",
    ),
    # Each start of AIPerf takes half a minute on two cores.
    pytest.mark.timeout(600),
]

KEY = "sk-bench"
ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: echo}
spec:
  pool: test
  engine: {type: simulated, args: {reply: echo, fail_on: please fail, inter_token_seconds: 0.005}}
  guardrails:
    input: [{name: secret, banned: {phrases: [launch codes]}, action: Block}]
    output: [{name: bird, banned: {phrases: [falcon]}, action: Mask}]
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    chat_tokenizers.make(directory)
    return directory


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Served]:
    """A server whose gateway asks for an API key, which the benchmarks of these tests send."""
    keys = tmp_path_factory.mktemp("gateway") / "keys.yaml"
    keys.write_text(json.dumps({"bench": {"sha256": hashlib.sha256(KEY.encode()).hexdigest()}}))
    with (
        server.running([ENDPOINT], gateway={"api_keys": str(keys)}) as running,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("OPENAI_API_KEY", KEY)
        yield running


def command(*arguments: str | Path | int) -> list[str]:
    return [sys.executable, "-m", "tritonllm", "bench", *map(str, arguments)]


def run(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=500)


def test_failures_and_what_rules_did_are_told_with_the_times(
    served: server.Served, tokenizer: Path, tmp_path: Path
) -> None:
    prompts = [
        {"prompt": "One falcon and two more words"},
        {"instruction": "Say this:", "input": "the launch codes", "output": "No."},
        {"prompt": "One more, and then please fail in the middle", "max_tokens": 50},
        {"prompt": "Nothing special in this one"},
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, prompts)))
    folder = tmp_path / "results"
    found = run(served.gateway, "--dataset", file, "--concurrency", 2, "--requests", 8, "--warmup", 0, "--tokenizer",
        tokenizer, "--metrics-url", served.metrics, "--slo", "ttft=60s", "--output", folder)  # fmt: skip
    assert found.returncode == 1, found.stderr
    assert "Time to first token (ms)" in found.stdout
    assert "4 requests succeeded, 4 failed" in found.stdout
    assert "2 x 400 content_filter" in found.stdout
    assert "2 x broken stream" in found.stdout
    assert "output rule bird: Mask (2)" in found.stdout
    assert "input rule secret: Block (2)" in found.stdout
    result = json.loads((folder / "result.json").read_text())
    assert result["distributions"]["output_sequence_length"]["max"] >= 5
    assert result["rates"]["goodput"] > 0
    again = run(served.gateway, "--output", folder)
    assert (again.returncode, "has a result already" in again.stderr) == (2, True)


def test_triton_is_asked_by_its_own_api(served: server.Served, tokenizer: Path, tmp_path: Path) -> None:
    prompts = ["One falcon", "the launch codes", "and then please fail in the middle", "Nothing special"]
    file, folder = tmp_path / "prompts.jsonl", tmp_path / "results"
    file.write_text("\n".join(json.dumps({"prompt": prompt, "max_tokens": 50}) for prompt in prompts))
    found = run(served.http, "--api", "triton", "--model", "echo", "--dataset", file, "--concurrency", 2, "--requests", 8,
        "--warmup", 0, "--tokenizer", tokenizer, "--metrics-url", served.metrics, "--output", folder)  # fmt: skip
    assert found.returncode == 1, found.stderr
    assert "4 requests succeeded, 4 failed" in found.stdout
    assert "2 x content_filter" in found.stdout
    assert "2 x engine_failure: the simulated engine fails on this prompt" in found.stdout
    assert "input rule secret: Block (2)" in found.stdout
    result = json.loads((folder / "result.json").read_text())
    assert result["distributions"]["time_to_first_token"]["p50"] > 0
    assert result["distributions"]["output_sequence_length"]["max"] >= 2


def test_answers_of_triton_are_compared_by_its_own_api(served: server.Served) -> None:
    triton = targets.Server(served.http, "echo", None, None)
    asked = workload.Workload(api=workload.Api.triton, ignore_eos=False)
    found = answers.ask(triton, asked, [answers.Asked(text, 5) for text in ("One falcon", "Two")])
    assert found == ["One [REDACTED]", "Two"]
    with pytest.raises(failures.BenchmarkFailed, match="the simulated engine fails on this prompt"):
        answers.ask(triton, asked, [answers.Asked("One more, and then please fail in the middle", 50)])


def test_ctrl_c_keeps_what_is_there_and_leaves_no_process(
    served: server.Served, tokenizer: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    process = subprocess.Popen(command(served.gateway, "--api", "completions", "--request-rate", 5, "--requests", 5000,
        "--warmup", 0, "--input-tokens", 20, "--max-tokens", 5, "--tokenizer", tokenizer, "--output", folder), stdout=subprocess.PIPE, text=True)  # fmt: skip
    records = folder / "aiperf" / "profile_export.jsonl"
    server.until(lambda: records.exists() and records.stat().st_size > 0, 300)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Stopped before the end" in output
    assert json.loads((folder / "result.json").read_text())["succeeded"] > 0
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_a_file_is_served_and_swept(tokenizer: Path, tmp_path: Path) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text(ENDPOINT)
    folder = tmp_path / "results"
    asked = (file, "--requests", 6, "--input-tokens", 20, "--max-tokens", 5, "--tokenizer", tokenizer, "--output", folder)  # fmt: skip
    found = run("sweep", *asked, "--concurrency", "1,2")
    assert found.returncode == 0, found.stderr
    with (folder / "sweep.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["concurrency"], row["succeeded"], row["failed"]) for row in rows] == [("1", "6", "0"), ("2", "6", "0")]  # fmt: skip
    assert all(float(row["ttft_ms_p50"]) > 0 for row in rows)
    assert "<svg" in (folder / "report.html").read_text()
    again = run("sweep", *asked, "--concurrency", "1,2", "--png")
    assert again.stderr.count("measured already") == 2
    assert len(list((folder / "png").glob("*.png"))) == 6


def test_the_best_configuration_of_the_simulated_engine_is_found_and_applies(
    tokenizer: Path, tmp_path: Path
) -> None:
    file, space, folder = tmp_path / "endpoint.yaml", tmp_path / "space.yaml", tmp_path / "results"
    # Of eight streams one is answered at a time: eight at a time are eight times as fast, and an engine without memory does not start.
    args = "{inter_token_seconds: 0.02, max_num_seqs: 1}   # to be tuned"
    file.write_text(
        ENDPOINT.replace("{reply: echo, fail_on: please fail, inter_token_seconds: 0.005}}", f"{args}\n  }}")
    )
    space.write_text("engine: {args: {max_num_seqs: [1, 8], fail_to_load: [null, CUDA out of memory]}}")
    asked = ("--space", space, "--concurrency", 8, "--requests", 16, "--warmup", 0, "--input-tokens", 20, "--max-tokens", 10)  # fmt: skip
    found = subprocess.run([sys.executable, "-m", "tritonllm", "tune", *map(str, (file, *asked, "--slo", "latency-p99=60s", "--tokenizer", tokenizer, "--output", folder))], capture_output=True, text=True, timeout=500)  # fmt: skip
    assert found.returncode == 0, found.stderr
    (best,) = files.load([folder / "best.yaml"])
    assert best.spec.engine.args["max_num_seqs"] == 8
    with (folder / "trials.csv").open() as lines:
        outcomes = [row["outcome"] for row in csv.DictReader(lines)]
    assert sorted(outcomes) == ["did not fit", "did not fit", "feasible", "feasible"]
    assert "CUDA out of memory" in (folder / "report.html").read_text()
