"""Runs a benchmark beside a pool: makes the Job, follows it, takes its result, and deletes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tritonllm.bench import failures, folders, jobs, kubectl, results, tables

LOG = "job.log"
_POLL_SECONDS = 2.0
# The API server may be away for a moment, as while it is upgraded.
_FAILURES = 15
_LAST_LINES = 8


def found(cluster: kubectl.Kubectl, name: str) -> dict[str, Any]:
    """The Deployment of a pool that serves.

    Raises:
        failures.BenchmarkFailed: there is none, or none of its pods is ready.
    """
    pool = cluster.get("deployment", name)
    if pool is None or pool["metadata"].get("labels", {}).get(jobs.POOL) != name:
        others = [each["metadata"]["name"] for each in cluster.items("deployments", "--selector", jobs.POOL)]
        listed = f"its pools: {', '.join(others)}" if others else "it has no pool; name another --namespace"
        raise failures.BenchmarkFailed(f"the namespace has no pool {name}; {listed}")
    if not pool.get("status", {}).get("readyReplicas"):
        raise failures.BenchmarkFailed(
            f"no pod of pool {name} is ready; `kubectl get llme` and `kubectl get pods` say why"
        )
    return pool


def run(
    cluster: kubectl.Kubectl,
    body: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> results.Result:
    """Runs a benchmark as a Job, and writes its result and its log into a folder. The Job is deleted afterwards.

    Ctrl-C ends the benchmark early, with the result of the requests until then.

    Args:
        cluster: where.
        body: of the Job.
        folder: for the result and the log.
        say: tells of progress.

    Raises:
        failures.BenchmarkFailed: there is no result.
        KeyboardInterrupt: Ctrl-C came twice, or before the benchmark ran.
    """
    name = body["metadata"]["name"]
    say(f"Job {name}")
    try:
        cluster.create(body)
        log = cluster.logs(_followed(cluster, name, say))
        folders.write(folder / LOG, log)
    finally:
        try:
            cluster.delete_job(name)
        except failures.BenchmarkFailed as error:
            say(f"warning: Job {name} is not deleted: {error}")
    result = jobs.result(log)
    if result is None:
        lines = [line for line in log.splitlines() if line.strip()][-_LAST_LINES:]
        said = "".join(f"\n    {line}" for line in lines)
        raise failures.BenchmarkFailed(f"Job {name} has no result; its log is {folder / LOG}:{said}")
    folders.write_result(folder, result)
    folders.write(folder / "result.csv", tables.to_csv([result]))
    return result


def _followed(cluster: kubectl.Kubectl, name: str, say: Callable[[str], None]) -> str:
    """Waits until the benchmark has ended; the name of its pod."""
    seen, failed, stopping = jobs.State(""), 0, False
    while True:
        try:
            try:
                state = _state(cluster, name)
                failed = 0
            except _Unknown as error:
                failed += 1
                if failed > _FAILURES:
                    raise failures.BenchmarkFailed(f"Job {name} cannot be followed: {error}") from None
                state = seen
            if state.said != seen.said:
                say(state.said)
            seen = state
            if state.ended:
                return state.pod
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            if stopping or not seen.running:
                raise
            stopping = True
            say("Stopping; the results until now are kept. Ctrl-C again discards them.")
            try:
                cluster.interrupt(seen.pod)
            except failures.BenchmarkFailed as error:
                say(f"warning: it cannot be stopped early ({error}), so it goes on")


class _Unknown(Exception):
    """The API server does not tell the state."""


def _state(cluster: kubectl.Kubectl, name: str) -> jobs.State:
    try:
        job = cluster.get("job", name)
        pods = cluster.items("pods", "--selector", f"job-name={name}")
        events = () if pods else cluster.items("events", "--field-selector", f"involvedObject.name={name}")
    except failures.BenchmarkFailed as error:
        raise _Unknown(str(error)) from None
    if job is None:
        raise failures.BenchmarkFailed(f"Job {name} was deleted meanwhile")
    return jobs.state(job, pods, events)
