"""`tritonllm tune`: what keeps it from running is said in one sentence, before anything is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer.testing

from tritonllm import cli

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: pretend}
spec:
  pool: test
  engine: {type: simulated}
  guardrails: {}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A load generator that makes no load and has no result.
    monkeypatch.setenv("TRITONLLM_AIPERF", "true")
    Path("chat.yaml").write_text(ENDPOINT)


def tune(*arguments: str) -> tuple[int, str]:
    result = typer.testing.CliRunner().invoke(cli.app, ["tune", "chat.yaml", *arguments])
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--objective", "speed"], "--objective: `speed` is no metric; write output-tokens-per-second"),
        (["--slo", "ttft-p99=5"], "--slo: `ttft-p99=5` is not an objective"),
        (["--slo", "ttft=5ms"], "--slo: `ttft=5ms` has no statistic, as in ttft-p99=500ms"),
        (["--objective", "goodput"], "--slo: the goodput needs objectives of a request"),
        (["--objective", "ttft-p99", "--concurrency", "1,2"], "--objective: ttft-p99 is the lowest under the least load"),
        (["--concurrency", "1-2"], "--concurrency: `1-2` is not a number or a range"),
        (["--concurrency", "1", "--request-rate", "1"], "--request-rate: name either"),
        (["--space", "none.yaml"], "none.yaml: No such file or directory"),
        (["--space", "empty.yaml"], "empty.yaml: is empty"),
        (["--space", "broken.yaml"], "broken.yaml: is not YAML"),
        (["--space", "start.yaml"], "the search space has the start configuration only"),
        (["--space", "unknown.yaml"], "the search space cannot be used: spec.engine.args.max_num_seq: "),
        (["--dataset-entries", "5"], "--dataset-entries: needs --dataset"),
        (["--model", "other"], "chat.yaml has no model other; it has: pretend"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_followed_are_named(arguments: list[str], said: str) -> None:
    Path("empty.yaml").write_text("")
    Path("broken.yaml").write_text("engine: {")
    Path("start.yaml").write_text("engine: {args: {max_num_seqs: [256]}}")
    Path("unknown.yaml").write_text("engine: {args: {max_num_seq: [8, 16]}}")
    code, found = tune(*arguments)
    assert (code, found.count("\n")) == (2, 1), found
    assert found.startswith(said)
    assert not list(Path().glob("tune-*"))


def test_an_unknown_argument_is_refused_with_the_nearest() -> None:
    Path("unknown.yaml").write_text("engine: {args: {max_num_seq: [8, 16]}}")
    assert "max_num_seqs" in tune("--space", "unknown.yaml")[1].replace("args.max_num_seq:", "")


def test_no_optuna_is_a_sentence_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tritonllm.tuning.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tritonllm.tuning.search", raising=False)
    monkeypatch.delattr("tritonllm.tuning.tuner", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_NoOptuna(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "optuna", raising=False)
    code, said = tune()
    assert code == 1
    assert said.startswith("tritonllm: Optuna is not installed")
    assert "pip install 'tritonllm[tune]'" in said


class _NoOptuna:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")


def test_a_folder_of_another_task_is_refused() -> None:
    Path("space.yaml").write_text("engine: {args: {max_num_seqs: [8, 16]}}")
    Path("results").mkdir()
    Path("results/tune.json").write_text('{"objective": "goodput"}')
    code, said = tune("--space", "space.yaml", "--output", "results")
    assert code == 2
    assert said.startswith("results has a tuning run with another ")
    assert "objective" in said
