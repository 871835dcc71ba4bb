"""Benchmarks that endpoints ask for: once for each engine, one at a time, never during a roll, and told in the status."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import worlds
from tritonllm.bench import jobs as bench_jobs
from tritonllm_operator import benchmarks, bodies, events, facts, jobs, names, objects, plan, pools, status

IMAGE = "registry.example.com/tritonllm:bench"
ASKED = {"concurrency": [16, 64], "maxTokens": 32}
POINTS = [
    {"concurrency": 16, "succeeded": 160, "failed": 0, "outputTokensPerSecond": 800.0, "latencyP99Ms": 900.0},
    {"concurrency": 64, "succeeded": 638, "failed": 2, "outputTokensPerSecond": 1900.5, "latencyP99Ms": 1800.0},
]  # fmt: skip
SLOWER = {"type": "simulated", "args": {"inter_token_seconds": 0.5}}


def chat(name: str = "chat", told: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"benchmark": ASKED}
    found = worlds.resource(name, **(asked | spec))
    return found | ({"status": {"benchmark": told}} if told else {})


def digest(resource: Mapping[str, Any]) -> str:
    return benchmarks.digest(worlds.endpoint(resource))


def served(*endpoints: dict[str, Any], pods: int = 1, **more: Any) -> facts.World:
    """A pool that serves these and permits benchmarks."""
    found = worlds.stable(*endpoints, pods=pods, benchmark_image=IMAGE)
    return replace(found, endpoints=list(endpoints), **more)


def job(resource: Mapping[str, Any], **more: Any) -> facts.Benchmark:
    return facts.Benchmark(resource["metadata"]["name"], digest(resource), said="running", **more)


def started(decided: plan.Plan) -> str | None:
    return decided.benchmark.start and decided.benchmark.start.name


def told(world: facts.World, name: str = "chat") -> dict[str, Any]:
    return status.build(world, plan.decide(world), name).get("benchmark", {})


def complete(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"state": "Complete", "message": "", "hash": digest(resource), "points": POINTS, "completionTime": "2026-01-02T00:00:00Z"}  # fmt: skip


def test_an_endpoint_that_all_pods_serve_is_benchmarked_once() -> None:
    decided = plan.decide(served(chat(), pods=2))
    assert (started(decided), decided.acts) == ("chat", True)
    assert told(served(chat())) == {"state": "Pending", "message": "Job llm-benchmark is being created"}
    for state in ("Complete", "Failed"):
        after = chat(told=complete(chat()) | {"state": state})
        assert not plan.decide(served(after)).acts
        assert told(served(after)) == after["status"]["benchmark"]


def test_an_endpoint_that_asks_for_none_has_none() -> None:
    world = served(chat(benchmark=None))
    assert (started(plan.decide(world)), told(world)) == (None, {})


def test_the_file_of_the_pods_does_not_mention_it() -> None:
    decided = plan.decide(replace(served(chat()), files=None, pods=[worlds.pod("llm-1", chat())]))
    assert decided.data is not None
    assert "benchmark" not in decided.data[names.key("")]


def test_another_engine_and_another_load_are_benchmarked_and_another_policy_is_not() -> None:
    before = complete(chat())
    assert started(plan.decide(served(chat(told=before, phrases=["other"])))) is None
    assert started(plan.decide(served(chat(told=before, engine=SLOWER)))) == "chat"
    assert started(plan.decide(served(chat(told=before, benchmark={"concurrency": [8]})))) == "chat"


def rolling() -> facts.World:
    return replace(
        served(chat(told=complete(chat()))), endpoints=[chat(told=complete(chat()), engine=SLOWER)]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda world: replace(world, pool=replace(world.pool, benchmark_image="")),
        lambda world: replace(world, pods=[replace(world.pods[0], models={})]),
        lambda world: replace(world, pods=[replace(world.pods[0], ready=False)], pool=replace(world.pool, available=0)),
        # One of two pods has been replaced.
        lambda world: replace(world, pool=replace(world.pool, updated=1, current=2)),
        # The roll was not completed, as an autoscaler or a broken node leaves it.
        lambda world: replace(world, files=replace(world.files, marks={names.GOOD: "other"}), pool=replace(world.pool, available=0)),
        lambda _: rolling(),
        lambda world: replace(world, endpoints=[chat(phrases=["other"])]),
        lambda world: replace(world, endpoints=[chat(engine={"type": "simulated", "args": {"misspelt": 1}})]),
    ],
    ids=["not permitted", "not loaded", "not ready", "Helm rolls", "roll open", "roll begins", "in place", "refused"],
)  # fmt: skip
def test_nothing_is_benchmarked(change: Any) -> None:
    decided = plan.decide(change(served(chat())))
    assert started(decided) is None
    assert not decided.benchmark.delete


def test_why_it_waits_is_told_and_the_last_result_stays_meanwhile() -> None:
    closed = served(chat())
    assert closed.pool is not None
    closed = replace(closed, pool=replace(closed.pool, benchmark_image=""))
    assert "allow.benchmarks: true" in told(closed)["message"]
    assert not plan.decide(closed).acts
    during = told(rolling())
    assert (during["state"], during["points"], during["hash"]) == ("Pending", POINTS, digest(chat()))
    refused = served(chat(), refused=facts.Trouble("MissingRights", "the operator cannot create jobs"))
    assert told(refused)["message"] == "the operator cannot create jobs"
    # An edit that was taken back before its roll.
    back = told(served(chat(told=during)))
    assert (back["state"], back["points"]) == ("Complete", POINTS)


def test_one_runs_at_a_time_and_the_next_takes_its_place_when_its_result_is_kept() -> None:
    first, second = chat("a"), chat("b")
    assert started(plan.decide(served(first, second))) == "a"
    going = served(first, second, benchmark=job(first))
    assert plan.decide(going).benchmark == benchmarks.Step()
    assert told(going, "b")["message"] == "it begins after the benchmark of a"
    over = job(first, points=POINTS, finished=worlds.NOW)
    unkept = served(first, second, benchmark=over)
    assert plan.decide(unkept).benchmark == benchmarks.Step()
    kept = served(chat("a", told=told(unkept, "a")), second, benchmark=over)
    assert plan.decide(kept).benchmark == benchmarks.Step(delete=True)
    assert started(plan.decide(replace(kept, benchmark=None))) == "b"
    # With nobody waiting, its log stays for people.
    assert not plan.decide(served(chat("a", told=told(unkept, "a")), benchmark=over)).acts


def test_a_job_that_nobody_asks_for_any_more_and_one_that_meets_a_roll_are_deleted() -> None:
    for endpoints in ([chat("other")], [chat(benchmark=None)], [chat(engine=SLOWER)]):
        decided = plan.decide(served(*endpoints, benchmark=job(chat())))
        assert decided.benchmark == benchmarks.Step(delete=True)
    # Every pod of the pool is replaced, for another endpoint's sake.
    edited = replace(
        served(chat(), chat("b"), benchmark=job(chat())), endpoints=[chat(), chat("b", engine=SLOWER)]
    )
    assert plan.decide(edited).benchmark == benchmarks.Step(delete=True)
    assert told(edited)["state"] == "Pending"
    # After it, it begins anew.
    assert started(plan.decide(served(chat(told=told(edited))))) == "chat"


def test_a_run_whose_job_somebody_deletes_is_not_repeated() -> None:
    going = told(served(chat(), benchmark=job(chat())))
    assert going == {"hash": digest(chat()), "state": "Running", "message": "running"}
    lost = served(chat(told=going))
    assert not plan.decide(lost).acts
    assert (told(lost)["state"], "deleted before its result" in told(lost)["message"]) == ("Failed", True)
    assert not plan.decide(served(chat(told=told(lost)))).acts


def test_the_result_is_told_with_an_event_and_neither_a_failure_nor_a_success_touches_readiness() -> None:
    before = status.build(served(chat()), plan.decide(served(chat())), "chat")
    results = {
        "Benchmarked": job(chat(), points=POINTS, finished=worlds.NOW),
        "BenchmarkFailed": job(chat(), failure="Job llm-benchmark ended", finished=worlds.NOW),
    }
    for reason, found in results.items():
        world = served(chat(), benchmark=found)
        after = status.build(world, plan.decide(world), "chat")
        assert after["conditions"] == before["conditions"]
        (event,) = events.between(before, after)
        assert (event.reason, event.message) == (reason, after["benchmark"]["message"])
        assert not events.between(after, after)
    assert told(served(chat(), benchmark=results["Benchmarked"])) == {
        "state": "Complete",
        "message": "at concurrency 64: 1900.5 output tokens/s, latency p99 1800 ms, 2 requests failed",
        "hash": digest(chat()),
        "completionTime": "2026-01-02T03:04:05Z",
        "points": POINTS,
    }


def test_a_load_under_which_no_request_succeeds_is_no_result() -> None:
    none = {"concurrency": 64, "succeeded": 0, "failed": 50, "error": "401 invalid_api_key"}
    for points, kind in (([POINTS[0], none], " (401 invalid_api_key)"), (POINTS[:1], "")):
        found = told(served(chat(), benchmark=job(chat(), points=points, finished=worlds.NOW)))
        assert found["state"] == "Failed"
        assert f"no request succeeded at concurrency 64{kind}; see `kubectl logs" in found["message"]


DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "llm", "namespace": "prod", "uid": "uid-llm", "labels": {"app.kubernetes.io/instance": "llm"}},
    "spec": {"selector": {"matchLabels": {names.COMPONENT: "server"}}, "template": {"spec": {}}},
}  # fmt: skip


def body() -> objects.Resource:
    owner = replace(worlds.POOL, benchmark_image=IMAGE, benchmark_tokenizer="/tokenizer", gateway=True)
    return bodies.benchmark_job(DEPLOYMENT, owner, worlds.endpoint(chat()))


def test_the_job_measures_the_endpoint_at_the_pools_service_and_ends_by_itself() -> None:
    found = body()
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == (
        IMAGE,
        ["bench", "sweep", "http://llm:8080", "--api=chat", "--model=chat", "--concurrency=16,64", "--input-tokens=512",
         "--max-tokens=32", "--tokenizer=/tokenizer", "--output=/tmp/results", "--termination-message=/dev/termination-log"],
    )  # fmt: skip
    assert found["metadata"]["name"] == "llm-benchmark"
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-llm"
    limits = {"backoffLimit": 0, "activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 3600}
    assert found["spec"].items() >= limits.items()
    for metadata in (found["metadata"], found["spec"]["template"]["metadata"]):
        assert metadata["labels"][names.POOL] == "llm"
        assert metadata["labels"][names.COMPONENT] == "benchmark"
        assert metadata["labels"][names.MANAGED_BY] == names.FIELD_MANAGER


def pod(**state: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "pod-x"},
        "spec": {"containers": [{"image": IMAGE}]},
        "status": {"containerStatuses": [{"state": state}]},
    }


def ended(message: str, code: int = 0) -> dict[str, Any]:
    return pod(terminated={"exitCode": code, "message": message, "finishedAt": "2026-01-02T03:00:00Z"})


def read(*pods: dict[str, Any], condition: str = "", reason: str = "", seconds: int = 1) -> facts.Benchmark:
    conditions = [
        {"type": condition, "status": "True", "reason": reason, "lastTransitionTime": "2026-01-02T03:00:00Z"}
    ]
    metadata = body()["metadata"] | {"creationTimestamp": worlds.NOW.isoformat()}
    status = {"conditions": conditions if condition else []}
    made = {**body(), "metadata": metadata, "status": status}
    return jobs.benchmark(made, pods, worlds.NOW + datetime.timedelta(seconds=seconds))


def test_a_job_is_read_from_its_pod() -> None:
    result = '{"points": [{"concurrency": 16, "succeeded": 3, "failed": 1}]}'
    # Requests that fail make the exit code 1.
    for found in (read(ended(result)), read(ended(result, 1), condition="Failed")):
        assert (found.endpoint, found.digest) == ("chat", digest(chat()))
        assert found.points == [{"concurrency": 16, "succeeded": 3, "failed": 1}]
        assert found.finished == datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    assert read(pod(running={})) == replace(read(), said="Job llm-benchmark: running")


@pytest.mark.parametrize(
    ("found", "said", "over"),
    [
        (
            read(pod(terminated={"exitCode": 137, "finishedAt": None}), condition="Failed"),
            "ended with code 137",
            True,
        ),
        (read(ended("", 1)), "ended with code 1 and no result; see `kubectl logs job/llm-benchmark`", True),
        (read(condition="Complete"), "was deleted before its result was read", True),
        (
            read(condition="Failed", reason="DeadlineExceeded"),
            "not complete within its deadline of 3600 s",
            True,
        ),
        (read(pod(terminated={"reason": "OOMKilled"}), condition="Failed"), "needed more memory than", True),
        # It is tried again until the deadline.
        (read(seconds=30), "Kubernetes cannot create a pod of Job llm-benchmark", False),
        (read(pod(waiting={"reason": "ImagePullBackOff"})), "the image cannot be pulled", False),
    ],
)
def test_a_job_without_a_result_says_why(found: facts.Benchmark, said: str, over: bool) -> None:
    assert said in found.failure
    assert (found.points, found.finished is not None) == (None, over)


def test_a_pool_permits_benchmarks_by_both_annotations() -> None:
    def image(**annotations: str) -> str:
        keys = {"benchmarks": names.BENCHMARKS, "image": bench_jobs.IMAGE}
        metadata = {"uid": "x", "creationTimestamp": worlds.LONG_AGO}
        metadata["annotations"] = {keys[key]: value for key, value in annotations.items()}  # type: ignore[assignment]
        template = {"metadata": {}, "spec": {}}
        return pools.read({"metadata": metadata, "spec": {"template": template}}).benchmark_image

    assert image(benchmarks="true", image=IMAGE) == IMAGE
    assert image(image=IMAGE) == image(benchmarks="true") == ""
