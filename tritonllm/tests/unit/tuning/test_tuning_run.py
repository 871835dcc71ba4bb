"""Tuning runs: what is tried, found, kept and continued, on a server whose best configuration is known."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import pytest

import tuned
from tritonllm import files
from tritonllm.bench import failures, results
from tritonllm.tuning import reasons, trials, tuner

ALL = len(tuned.FEW["engine", "args", "max_num_seqs"])


def run(
    folder: Path, budget: tuner.Budget, attempt: object = tuned.attempt, task: tuner.Task | None = None
) -> tuple[list[trials.Trial], bool]:
    return tuner.run(folder, task or tuned.task(), budget, attempt, lambda text: None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that tried everything."""
    folder = tmp_path_factory.mktemp("whole")
    assert len(run(folder, tuner.Budget(100))[0]) == ALL
    return folder


def test_the_best_configuration_is_found_without_trying_all_and_what_mattered_is_said(tmp_path: Path) -> None:
    found, stopped = run(tmp_path, tuner.Budget(24), task=tuned.task(tuned.SPACE))
    best = trials.best(found, tuned.WANTED)
    assert best is not None
    assert best.values == tuned.BEST
    assert (len(found), stopped) == (24, False)
    assert len({tuple(trial.values.items()) for trial in found}) == 24 < 6 * 6
    text = (tmp_path / tuner.REPORT).read_text()
    assert text.rindex("<td>engine.args.max_num_seqs</td>") < text.rindex("<td>engine.args.max_num_batched_tokens</td>")  # fmt: skip
    assert "times the start configuration" in text
    assert "limit of 20 ms" in text


def test_the_start_configuration_is_the_first_and_is_served_as_it_is_written(tmp_path: Path) -> None:
    calls: list[str] = []
    run(tmp_path, tuner.Budget(1), tuned.remembered(calls))
    assert calls == [tuned.ENDPOINT]


def test_the_best_configuration_is_an_endpoint_file_with_its_comments(whole: Path) -> None:
    text = (whole / tuner.BEST).read_text()
    (endpoint,) = files.load([whole / tuner.BEST])
    assert endpoint.spec.engine.args == {"max_num_seqs": 64, "max_model_len": 2048}
    assert "# The one that is tuned." in text


def test_a_configuration_that_breaks_an_objective_or_does_not_fit_is_kept_with_the_reason(
    whole: Path,
) -> None:
    with (whole / tuner.TABLE).open() as lines:
        rows = {row["engine.args.max_num_seqs"]: row for row in csv.DictReader(lines)}
    assert len(rows) == ALL
    assert rows["128"]["outcome"] == "broke an objective"
    assert rows["128"]["reason"] == "itl-p99 is 27 ms, more than 20"
    assert rows["256"]["outcome"] == "did not fit"
    assert rows["256"]["reason"] == "No available memory for the cache blocks."
    assert rows["256"]["output_tokens_per_second"] == ""
    assert "No available memory" in (whole / tuner.REPORT).read_text()


def test_a_run_is_continued_and_tries_nothing_again(tmp_path: Path) -> None:
    calls: list[str] = []
    run(tmp_path, tuner.Budget(2), tuned.remembered(calls))
    found, _ = run(tmp_path, tuner.Budget(4), tuned.remembered(calls))
    assert [trial.number for trial in found] == [*range(4)]
    assert len(calls) == len(set(calls)) == 4


def test_ctrl_c_keeps_the_trials_and_tries_the_last_one_again_or_another(tmp_path: Path) -> None:
    calls: list[str] = []

    def interrupted(content: str, folder: Path) -> list[results.Result]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tuned.remembered(calls)(content, folder)

    found, stopped = run(tmp_path, tuner.Budget(10), interrupted)
    assert (len(found), stopped) == (2, True)
    assert (tmp_path / tuner.REPORT).exists()
    assert (tmp_path / tuner.BEST).exists()
    found, stopped = run(tmp_path, tuner.Budget(3))
    assert (len(found), stopped) == (3, False)


def test_a_run_that_was_killed_is_continued(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(content: str, folder: Path) -> list[results.Result]:
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, tuner.Budget(10), killed)
    assert len(run(tmp_path, tuner.Budget(2))[0]) == 2


def test_no_trial_is_started_after_the_time(tmp_path: Path) -> None:
    clock = iter(range(0, 10_000, 60))
    found, _ = tuner.run(
        tmp_path,
        tuned.task(),
        tuner.Budget(100, minutes=4),
        tuned.attempt,
        lambda text: None,
        lambda: next(clock),
    )
    # The clock is read once at the start, and before each trial; each reading is a minute.
    assert len(found) == 3


def test_a_start_configuration_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    def broken(content: str, folder: Path) -> list[results.Result]:
        raise reasons.Unusable(reasons.Outcome.start, "no tritonserver was found")

    with pytest.raises(failures.BenchmarkFailed, match=r"start configuration did not start: no tritonserver"):
        run(tmp_path, tuner.Budget(10), broken)
    assert len(run(tmp_path, tuner.Budget(2))[0]) == 2


def test_a_start_configuration_that_does_not_fit_does_not_end_the_run(tmp_path: Path) -> None:
    def tight(content: str, folder: Path) -> list[results.Result]:
        if "max_num_seqs: 16" in content:
            raise reasons.Unusable(reasons.Outcome.memory, "CUDA out of memory")
        return tuned.attempt(content, folder)

    found, _ = run(tmp_path, tuner.Budget(2), tight)
    assert found[0].outcome is reasons.Outcome.memory
    assert len(found) == 2


def test_objectives_that_nothing_can_keep_leave_no_best_file_and_name_the_nearest(tmp_path: Path) -> None:
    limited, _ = tuned.objective.limits("itl-p99=1ms")
    task = dataclasses.replace(tuned.task(), limited=limited)
    found, _ = run(tmp_path, tuner.Budget(3), task=task)
    assert trials.best(found, tuned.WANTED) is None
    assert not (tmp_path / tuner.BEST).exists()
    said = tuner.none_feasible(found)
    assert re.search(r"trial \d is the nearest: itl-p99 is [\d.]+ ms, more than 1$", said)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / tuner.STUDY).mkdir()
    with pytest.raises(
        failures.BenchmarkFailed, match=r"trials\.sqlite3 cannot be written: .*unable to open"
    ):
        run(tmp_path, tuner.Budget(1))
