"""`tritonllm bench --pool` with the real kubectl and a real API server; tests are the kubelet."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import api_server as processes
import chart
from pool import until
from tritonllm_operator import names

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

JOBS = "/apis/batch/v1/namespaces/{}/jobs"
_MERGE = {"Content-Type": "application/merge-patch+json"}
BENCH = {"benchmark": {"image": "registry.example.com/tritonllm:bench"}}


@pytest.fixture(scope="module")
def admin(api_server: processes.ApiServer) -> Iterator[httpx.Client]:
    with api_server.client() as client:
        yield client


@pytest.fixture
def prod(admin: httpx.Client, namespace: str) -> str:
    """A namespace in which only pods of the restricted profile are admitted, with a pool that serves."""
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    admin.patch(f"/api/v1/namespaces/{namespace}", json=level, headers=_MERGE).raise_for_status()
    place = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    admin.post(place, json=chart.one(chart.render(BENCH), "Deployment")).raise_for_status()
    _pod(
        admin, namespace, names.POOL, "llm", phase="Running", conditions=[{"type": "Ready", "status": "True"}]
    )
    until(lambda: admin.get(f"{place}/llm").json()["status"].get("availableReplicas"))
    return namespace


@pytest.fixture
def bench(api_server: processes.ApiServer, prod: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tritonllm", "bench", "--pool", "llm", "-n", prod, "--concurrency", "8"],
        env=os.environ | {"KUBECONFIG": str(api_server.kubeconfig)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def _job(admin: httpx.Client, namespace: str) -> dict[str, Any]:
    """The Job that is made."""
    return until(lambda: admin.get(JOBS.format(namespace)).json()["items"])[0]


def _pod(admin: httpx.Client, namespace: str, label: str, value: str, **status: Any) -> None:
    """Waits until a controller has made the pod with a label, and brings it into a state."""
    place = f"/api/v1/namespaces/{namespace}/pods"
    query = {"labelSelector": f"{label}={value}"}
    (pod,) = until(lambda: admin.get(place, params=query).json()["items"])
    name = pod["metadata"]["name"]
    admin.patch(f"{place}/{name}/status", json={"status": status}, headers=_MERGE).raise_for_status()


def _said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[1]


def test_an_image_that_cannot_be_pulled_is_told_and_the_job_is_deleted(
    admin: httpx.Client, prod: str, bench: subprocess.Popen[str]
) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such tag"}
    container = {
        "name": "benchmark",
        "image": "",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": waiting},
    }
    # That the server admits this pod, in the restricted profile, is the other half of the test.
    job = _job(admin, prod)["metadata"]["name"]
    _pod(admin, prod, "job-name", job, phase="Pending", containerStatuses=[container])
    said = _said(bench)
    assert bench.returncode == 1
    assert "the image cannot be pulled (registry.example.com/tritonllm:bench): no such tag" in said
    # Its dependents are the garbage collector's.
    assert not admin.get(JOBS.format(prod)).json()["items"]


@pytest.fixture
def full(admin: httpx.Client, prod: str) -> None:
    """The namespace takes no more pods. Its quota's status is another controller's."""
    place, limits = f"/api/v1/namespaces/{prod}/resourcequotas", {"pods": "1"}
    admin.post(place, json={"metadata": {"name": "small"}, "spec": {"hard": limits}}).raise_for_status()
    status = {"status": {"hard": limits, "used": limits}}
    admin.patch(f"{place}/small/status", json=status, headers=_MERGE).raise_for_status()


@pytest.mark.usefixtures("full")
def test_a_quota_is_told(bench: subprocess.Popen[str]) -> None:
    said = _said(bench)
    assert bench.returncode == 1
    assert "is not admitted: " in said
    assert "exceeded quota: small, requested: pods=1" in said


def test_ctrl_c_before_it_runs_leaves_no_job(
    admin: httpx.Client, prod: str, bench: subprocess.Popen[str]
) -> None:
    _job(admin, prod)
    bench.send_signal(signal.SIGINT)
    _said(bench)
    assert bench.returncode == 130
    assert not admin.get(JOBS.format(prod)).json()["items"]


def test_a_pool_that_is_not_there_is_told_with_those_that_are(
    api_server: processes.ApiServer, prod: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tritonllm", "bench", "--pool", "lm", "-n", prod],
        env=os.environ | {"KUBECONFIG": str(api_server.kubeconfig)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "tritonllm: the namespace has no pool lm; its pools: llm\n"
    assert not list(tmp_path.iterdir())
