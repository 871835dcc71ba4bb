"""A benchmark as a Job: its body, whole, as a file that a reviewer can read, and what its states mean for people."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml

import measured
from tritonllm.bench import failures, jobs
from tritonllm.commands import bench_job

GOLDEN = pathlib.Path(__file__).parent / "commands" / "job.yaml"
SELECTOR = {"matchLabels": {"app.kubernetes.io/instance": "llm", "app.kubernetes.io/component": "server"}}
POOL: dict[str, Any] = {
    "metadata": {
        "name": "llm",
        "namespace": "prod",
        "uid": "uid-1",
        "labels": {"app.kubernetes.io/instance": "llm", "tritonllm.io/pool": "llm"},
        "annotations": {"tritonllm.io/benchmark-image": "registry.example.com/tritonllm:bench"},
    },
    "spec": {
        "selector": SELECTOR,
        "template": {
            "spec": {
                "serviceAccountName": "llm",
                "securityContext": {"runAsNonRoot": True, "runAsUser": 10001},
                "imagePullSecrets": [{"name": "registry"}],
                "nodeSelector": {"gpu": "h100"},
                "runtimeClassName": "nvidia",
                "volumes": [{"name": "api-keys", "secret": {"secretName": "llm-api-keys"}}],
            }
        },
    },
    "status": {"readyReplicas": 1},
}
GIVEN = {
    "model": None,
    "concurrency": 64,
    "slo": "ttft=500ms",
    "api": "chat",
    "dataset": None,
    "ignore_eos": False,
    "extra": '{"temperature": 0}',
    "seed": 0,
}


def test_the_job_is_as_recorded(request: pytest.FixtureRequest) -> None:
    body = jobs.body(
        "llm-benchmark-x", POOL, jobs.image(POOL, None), bench_job.job_arguments("llm", GIVEN), 3600
    )
    # By JSON, so that nothing is an alias.
    found = yaml.safe_dump(json.loads(json.dumps(body)), sort_keys=False)
    if request.config.getoption("--golden-update"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), "if this change is wanted: pytest --golden-update"


def test_tritons_own_api_is_at_its_own_port() -> None:
    assert "http://llm:8000" in bench_job.job_arguments("llm", GIVEN | {"api": "triton"})


def test_a_file_of_prompts_is_refused_because_the_job_has_none() -> None:
    with pytest.raises(failures.InvalidBenchmark, match="--dataset: cannot be combined with --pool"):
        bench_job.job_arguments("llm", GIVEN | {"dataset": pathlib.Path("prompts.jsonl")})


def test_a_pool_without_an_image_for_benchmarks_asks_for_one() -> None:
    bare = POOL | {"metadata": {"name": "llm"}}
    assert jobs.image(bare, "mine") == "mine"
    with pytest.raises(failures.InvalidBenchmark, match=r"--image: the pool has no `benchmark\.image`"):
        jobs.image(bare, None)


def test_a_pool_that_needs_no_key_gets_none_and_another_secret_can_be_named() -> None:
    anonymous = POOL | {"spec": POOL["spec"] | {"template": {"spec": {}}}}
    names = lambda body: [each["name"] for each in body["spec"]["template"]["spec"]["containers"][0]["env"]]  # noqa: E731
    assert "OPENAI_API_KEY" not in names(jobs.body("x", anonymous, "image", [], 60))
    assert "secretKeyRef': {'name': 'mine'" in str(jobs.body("x", anonymous, "image", [], 60, "mine"))


@pytest.mark.parametrize(
    ("annotation", "cpu"),
    [('{"requests": {"cpu": "500m"}}', "500m"), ("{", "2")],
    ids=["of the chart", "spoilt: the default"],
)
def test_the_pool_says_what_the_job_requests(annotation: str, cpu: str) -> None:
    metadata = POOL["metadata"] | {"annotations": {"tritonllm.io/benchmark-resources": annotation}}
    body = jobs.body("x", POOL | {"metadata": metadata}, "image", [], 60)
    assert body["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == cpu


JOB = {"metadata": {"name": "llm-benchmark-x"}, "spec": {"activeDeadlineSeconds": 3600}}


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pod-x"}, "spec": {"containers": [{"image": "bench:1"}]}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return pod(phase="Pending", containerStatuses=[{"state": state}])


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container(waiting={"reason": reason, "message": message})


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}


@pytest.mark.parametrize(
    ("pods", "state"),
    [
        ([], jobs.State("waiting for its pod")),
        ([pod(phase="Pending", conditions=[UNSCHEDULABLE])], jobs.State("waiting for a node: 0/3 nodes", "pod-x")),
        ([pod(phase="Pending")], jobs.State("pulling the image", "pod-x")),
        ([waiting("ContainerCreating")], jobs.State("pulling the image", "pod-x")),
        # The next try may succeed.
        ([waiting("ErrImagePull", "timeout")], jobs.State("pulling the image", "pod-x")),
        ([container(running={})], jobs.State("running", "pod-x", running=True)),
        ([container(terminated={"exitCode": 1})], jobs.State("ended", "pod-x", ended=True)),
    ],
)  # fmt: skip
def test_a_job_on_its_way_is_waited_for(pods: list[Any], state: jobs.State) -> None:
    assert jobs.state(JOB, pods, []) == state


def conditioned(reason: str, message: str) -> dict[str, Any]:
    return JOB | {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": message}]}}  # fmt: skip


QUOTA = {"reason": "FailedCreate", "message": 'pods "x" is forbidden: exceeded quota: cpu'}


@pytest.mark.parametrize(
    ("job", "pods", "events", "said"),
    [
        (JOB, [], [QUOTA], "is not admitted: pods .* exceeded quota: cpu"),
        (JOB, [waiting("ImagePullBackOff", "no such tag")], [], r"cannot be pulled \(bench:1\): no such tag"),
        (JOB, [waiting("InvalidImageName")], [], r"cannot be pulled \(bench:1\): InvalidImageName"),
        (JOB, [waiting("CreateContainerConfigError", "secret")], [], "container cannot be created .*: secret"),
        (JOB, [container(terminated={"reason": "OOMKilled"})], [], "needed more memory than its limit"),
        (JOB, [pod(phase="Failed", reason="Evicted", message="low on disk")], [], "pod pod-x .*: low on disk"),
        (conditioned("DeadlineExceeded", ""), [], [], "not complete within its deadline of 3600 s"),
        (conditioned("BackoffLimitExceeded", "limit"), [], [], "Job llm-benchmark-x failed: limit"),
    ],
)  # fmt: skip
def test_what_does_not_get_better_by_waiting_is_one_sentence(
    job: Any, pods: list[Any], events: list[Any], said: str
) -> None:
    with pytest.raises(failures.BenchmarkFailed, match=said):
        jobs.state(job, pods, events)


def test_the_result_is_found_among_what_else_the_pod_prints() -> None:
    result = measured.result(8)
    line = json.dumps(result.encoded())
    assert jobs.result(f'Asking chat …\n{{"not": "it"}}\n{line}\nResults: /tmp\n') == result
    assert jobs.result("tritonllm: http://llm:8080 does not answer\n") is None


def test_a_job_has_a_name_of_its_own_that_is_short_enough() -> None:
    assert len(jobs.name("p" * 50)) <= 63
    assert jobs.name("llm") != jobs.name("llm")
