"""`spec.benchmark`: AIPerf in a Job after a roll, and its result in the endpoint's status."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import commands, images, network, operator, traffic
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes

_REQUESTS = 8


@pytest.fixture(scope="session")
def bench(cluster: Cluster, demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image with AIPerf and a tokenizer in /data, on every node."""
    directory = tmp_path_factory.mktemp("bench") / "tokenizer"
    directory.mkdir()
    for file in demo_model.glob("*.json"):
        shutil.copy2(file, directory)
    return images.load(cluster, images.with_files(images.triton_cpu("bench"), directory))


@pytest.mark.usefixtures("operating")
def test_an_endpoint_that_gets_another_engine_is_measured_and_its_status_has_the_result(
    release: Release, kubernetes: Kubernetes, bench: str
) -> None:
    kubernetes.apply(network.deny_all(), _endpoint(release, inter_token_seconds=0.4))
    release.apply(
        {
            "benchmark": {
                "image": bench,
                "tokenizer": "/data",
                "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}},
            },
        }
    )
    operator.until(kubernetes, "chat", "Loaded")
    before = _measured(kubernetes)

    kubernetes.apply(_endpoint(release, inter_token_seconds=0.01))
    operator.until(kubernetes, "chat", "Loaded", seconds=180)
    after = _measured(kubernetes, since=before)
    assert after["points"][0]["outputTokensPerSecond"] > before["points"][0]["outputTokensPerSecond"]
    release.uninstall()


def _endpoint(release: Release, **args: Any) -> dict[str, Any]:
    spec = traffic.with_engine(**args)
    spec["benchmark"] = {"concurrency": [2], "requests": _REQUESTS, "inputTokens": 16, "maxTokens": 8}
    return operator.endpoint("chat", release.name, spec)


def _measured(kubernetes: Kubernetes, since: dict[str, Any] | None = None) -> dict[str, Any]:
    """`status.benchmark` once it has a result, of another version than one before."""

    def told() -> dict[str, Any]:
        return kubernetes.get("llmendpoint", "chat")["status"].get("benchmark", {})

    def over() -> bool:
        found = told()
        assert found.get("state") != "Failed", found
        return found.get("state") == "Complete" and found["hash"] != (since or {}).get("hash")

    commands.until(over, 300, "the benchmark is complete")
    found = told()
    (point,) = found["points"]
    assert (point["concurrency"], point["succeeded"], point["failed"]) == (2, _REQUESTS, 0)
    return found
