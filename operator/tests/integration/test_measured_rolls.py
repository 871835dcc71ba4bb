"""`spec.benchmark`, with the operator and a real API server; tests are the kubelet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import test_rights as rights

import chart
import pool
from api_server import ApiServer
from pool import Operator, Pool, endpoint, until
from tritonllm.bench import jobs
from tritonllm_operator import names

IMAGE = "registry.example.com/tritonllm:bench"
ASKED = {"concurrency": [16]}
SLOWER = {"type": "simulated", "args": {"inter_token_seconds": 0.5}}
POINT = {
    "concurrency": 16,
    "outputTokensPerSecond": 812.5,
    "latencyP99Ms": 900.0,
    "succeeded": 50,
    "failed": 0,
}
PERMITTED = {names.BENCHMARKS: "true", jobs.IMAGE: IMAGE}
OPEN = {"allow": {"benchmarks": True}, "benchmark": {"image": IMAGE}}

install = rights.install


def operating(
    api_server: ApiServer, client: httpx.Client, install: list[str], llm: Pool, values: dict[str, Any]
) -> Path:
    """The kubeconfig of an operator with the rights that the charts grant with these values, and no others."""
    given = {"operator": {"enabled": True, "namespace": rights.HOME}}
    documents = chart.render(given | values, f"--namespace={llm.name}")
    rights.grant(client, install, chart.operator({}), rights.HOME)
    rights.grant(
        client, install, [each for each in documents if each["kind"] in ("Role", "RoleBinding")], llm.name
    )
    return api_server.kubeconfig_of(rights.HOME, rights.ACCOUNT)


def permit(llm: Pool) -> None:
    """What the chart writes with `allow.benchmarks` and `benchmark.image`."""
    metadata = {"annotations": PERMITTED, "labels": {"app.kubernetes.io/instance": "llm"}}
    llm.patch("deployments", "llm", {"metadata": metadata})


def job(llm: Pool, operator: Operator) -> pool.Json:
    """The Job, once it is there."""
    return until(lambda: llm.get("jobs", "llm-benchmark"), lambda: (llm.status(), operator.story()))


def end(llm: Pool, made: pool.Json, message: str, code: int = 0) -> None:
    """The pod of the Job ends with a termination message."""
    (pod,) = until(lambda: llm.list("pods", f"controller-uid={made['metadata']['uid']}"))
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:10:00Z"}
    state = {"terminated": {"exitCode": code, "message": message, **times}}
    container = {
        "name": "benchmark",
        "image": IMAGE,
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }
    status = {"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": [container]}
    llm.trouble(pod["metadata"]["name"], **status)


def told(llm: Pool, state: str, operator: Operator) -> pool.Json:
    """`status.benchmark`, once it says so."""
    until(
        lambda: llm.status().get("benchmark", {}).get("state") == state,
        lambda: (llm.status(), operator.story()),
    )
    return llm.status()["benchmark"]


def test_an_endpoint_is_benchmarked_once_for_each_engine_and_the_result_is_in_its_status(
    api_server: ApiServer, client: httpx.Client, llm: Pool, install: list[str], tmp_path: Path
) -> None:
    kubeconfig = operating(api_server, client, install, llm, OPEN)
    with pool.operating(kubeconfig, tmp_path, resync=1) as operator:
        llm.as_left(endpoint(benchmark=ASKED))
        llm.run()
        assert "allow.benchmarks" in told(llm, "Pending", operator)["message"]
        permit(llm)
        first = job(llm, operator)
        assert first["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
        told(llm, "Running", operator)
        end(llm, first, json.dumps({"points": [POINT]}))
        found = told(llm, "Complete", operator)
        assert found["points"] == [POINT]
        assert found["completionTime"] == "2026-01-01T00:10:00Z"
        message = "at concurrency 16: 812.5 output tokens/s, latency p99 900 ms"
        until(lambda: ("Normal", "Benchmarked", message) in llm.events())
        # Another policy is not measured again.
        llm.ban("chat", "other")
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        operator.until_looked()
        assert llm.list("jobs")[0]["metadata"]["uid"] == first["metadata"]["uid"]
        assert llm.status()["benchmark"] == found
        # Another engine is, in a Job of its own, after its roll.
        llm.edit("chat", engine=SLOWER)
        second = until(
            lambda: [
                each for each in llm.list("jobs") if each["metadata"]["uid"] != first["metadata"]["uid"]
            ],
            lambda: (llm.status(), operator.story()),
        )[0]
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        assert llm.revision()
        end(llm, second, "", code=1)
        failed = told(llm, "Failed", operator)
        assert "ended with code 1 and no result; see `kubectl logs job/llm-benchmark`" in failed["message"]
        assert llm.condition("Ready")[0] == "True"
        assert until(lambda: pool.counted(llm.events())["Warning", "BenchmarkFailed"]) == 1
        # The Job goes with the endpoint.
        llm.delete("llmendpoints", "chat")
        until(lambda: not llm.list("jobs"), operator.story)
    assert "forbidden" not in operator.log.read_text().lower()


def test_a_benchmark_that_the_operator_has_no_right_to_is_told_and_the_endpoint_serves(
    api_server: ApiServer, client: httpx.Client, llm: Pool, install: list[str], tmp_path: Path
) -> None:
    kubeconfig = operating(api_server, client, install, llm, {})
    with pool.operating(kubeconfig, tmp_path) as operator:
        llm.as_left(endpoint(benchmark=ASKED))
        llm.run()
        permit(llm)
        until(
            lambda: "cannot create jobs" in llm.status().get("benchmark", {}).get("message", ""),
            lambda: (llm.status(), operator.story()),
        )
        assert llm.status()["benchmark"]["state"] == "Pending"
        assert [llm.condition(kind)[0] for kind in ("Accepted", "Loaded", "Ready")] == ["True"] * 3
