"""`tritonllm bench --pool`: the Job is followed, its result taken, and it is deleted whatever happens."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import measured
from tritonllm.bench import failures, folders, kubectl, pools
from unit.benchmarking import test_bench_jobs as shapes

RUNNING, ENDED = shapes.container(running={}), shapes.container(terminated={"exitCode": 0})
WAITING = shapes.waiting("ContainerCreating")
RESULT = measured.result(8)


class Cluster(kubectl.Kubectl):
    """A cluster in which a pod goes through states, one for each time that it is asked for."""

    def __init__(self, *states: dict[str, Any] | Exception | type[KeyboardInterrupt], log: str = "") -> None:
        super().__init__(None, None)
        self._states = list(states)
        self.log = log or f"Asking chat\n{json.dumps(RESULT.encoded())}\n"
        self.deleted: list[str] = []
        self.interrupted: list[str] = []
        self.deployment: dict[str, Any] | None = copy.deepcopy(shapes.POOL)

    def get(self, *arguments: str) -> dict[str, Any] | None:
        return self.deployment if arguments[0] == "deployment" else shapes.JOB

    def items(self, *arguments: str) -> Sequence[dict[str, Any]]:
        if arguments[0] != "pods":
            return []
        state = self._states.pop(0)
        if not isinstance(state, dict):
            raise state
        return [state]

    def create(self, body: Any) -> None:
        pass

    def logs(self, pod: str) -> str:
        return self.log

    def interrupt(self, pod: str) -> None:
        self.interrupted.append(pod)

    def delete_job(self, name: str) -> None:
        self.deleted.append(name)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Cluster], list[str]]:
    monkeypatch.setattr(pools, "_POLL_SECONDS", 0)

    def run(cluster: Cluster) -> list[str]:
        said: list[str] = []
        assert pools.run(cluster, shapes.JOB, tmp_path, said.append) == RESULT
        return said

    return run


def test_the_result_and_the_log_are_written_and_the_job_is_deleted(
    run: Callable[[Cluster], list[str]], tmp_path: Path
) -> None:
    cluster = Cluster(WAITING, WAITING, RUNNING, ENDED)
    assert run(cluster) == ["Job llm-benchmark-x", "pulling the image", "running", "ended"]
    assert folders.read_result(tmp_path) == RESULT
    assert "Asking chat" in (tmp_path / "job.log").read_text()
    assert (tmp_path / "result.csv").exists()
    assert cluster.deleted == ["llm-benchmark-x"]


def test_an_api_server_that_is_away_for_a_moment_does_not_lose_the_benchmark(
    run: Callable[[Cluster], list[str]],
) -> None:
    run(Cluster(RUNNING, *[failures.BenchmarkFailed("connection refused")] * 10, RUNNING, ENDED))
    gone = Cluster(RUNNING, *[failures.BenchmarkFailed("connection refused")] * 20)
    with pytest.raises(failures.BenchmarkFailed, match="cannot be followed: connection refused"):
        run(gone)
    assert gone.deleted


def test_a_job_that_cannot_run_is_deleted_with_its_reason(run: Callable[[Cluster], list[str]]) -> None:
    cluster = Cluster(WAITING, shapes.waiting("ImagePullBackOff", "no such tag"))
    with pytest.raises(failures.BenchmarkFailed, match="no such tag"):
        run(cluster)
    assert cluster.deleted


def test_a_benchmark_without_a_result_is_told_with_the_end_of_its_log(
    run: Callable[[Cluster], list[str]], tmp_path: Path
) -> None:
    cluster = Cluster(ENDED, log="tritonllm: http://llm:8080 does not answer\n")
    with pytest.raises(failures.BenchmarkFailed, match=r"(?s)no result; its log is .*does not answer"):
        run(cluster)
    assert cluster.deleted
    assert (tmp_path / "job.log").exists()


def test_ctrl_c_stops_the_benchmark_and_its_result_is_kept(run: Callable[[Cluster], list[str]]) -> None:
    cluster = Cluster(RUNNING, KeyboardInterrupt, RUNNING, ENDED)
    assert "Stopping; the results until now are kept. Ctrl-C again discards them." in run(cluster)
    assert cluster.interrupted == ["pod-x"]


@pytest.mark.parametrize("states", [(WAITING, KeyboardInterrupt), (RUNNING, KeyboardInterrupt, RUNNING, KeyboardInterrupt)])  # fmt: skip
def test_ctrl_c_before_it_runs_or_twice_deletes_the_job(
    run: Callable[[Cluster], list[str]], states: tuple[Any, ...]
) -> None:
    cluster = Cluster(*states)
    with pytest.raises(KeyboardInterrupt):
        run(cluster)
    assert cluster.deleted


def test_a_pool_that_is_not_there_or_does_not_serve_is_told() -> None:
    cluster = Cluster()
    assert pools.found(cluster, "llm") == shapes.POOL
    cluster.deployment = shapes.POOL | {"status": {}}
    with pytest.raises(failures.BenchmarkFailed, match="no pod of pool llm is ready"):
        pools.found(cluster, "llm")
    # Some other Deployment.
    cluster.deployment = shapes.POOL | {"metadata": {"name": "llm"}}
    with pytest.raises(failures.BenchmarkFailed, match="the namespace has no pool llm; it has no pool"):
        pools.found(cluster, "llm")
    cluster.deployment = None
    with pytest.raises(failures.BenchmarkFailed, match="the namespace has no pool llm"):
        pools.found(cluster, "llm")


def _kubectl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> kubectl.Kubectl:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return kubectl.Kubectl("prod", "cluster")


def test_kubectl_gets_namespace_and_context_before_what_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = _kubectl(tmp_path, 'echo "$@"', monkeypatch)
    assert cluster.logs("pod-x") == "logs --namespace prod --context cluster pod-x\n"


def test_what_kubectl_says_is_the_reason_and_nothing_there_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _kubectl(tmp_path, "exit 0", monkeypatch).get("job", "x") is None
    refusing = _kubectl(tmp_path, "echo E1128 retry >&2; echo error: forbidden for you >&2; exit 1", monkeypatch)  # fmt: skip
    with pytest.raises(failures.BenchmarkFailed, match=r"^kubectl get: forbidden for you$"):
        refusing.get("job", "x")
    (tmp_path / "kubectl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(failures.BenchmarkFailed, match="kubectl is not on the PATH"):
        refusing.get("job", "x")
