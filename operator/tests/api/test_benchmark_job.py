"""`tritonllm bench --pool` with the real kubectl and a real API server; tests are the kubelet and the Job's controller."""

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
    status = {"status": {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}}
    admin.patch(f"{place}/llm/status", json=status, headers=_MERGE).raise_for_status()
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


def _pod(admin: httpx.Client, namespace: str, job: dict[str, Any], **status: Any) -> None:
    """Makes the Job's pod, as its controller does, in a state."""
    template = job["spec"]["template"]
    labels = template["metadata"]["labels"] | {"job-name": job["metadata"]["name"]}
    body = {
        "metadata": {"name": "pod-x", "labels": labels},
        "spec": template["spec"] | {"serviceAccountName": "default"},
    }
    place = f"/api/v1/namespaces/{namespace}"
    admin.post(f"{place}/serviceaccounts", json={"metadata": {"name": "default"}})
    made = admin.post(f"{place}/pods", json=body)
    assert made.is_success, made.text
    admin.patch(f"{place}/pods/pod-x/status", json={"status": status}, headers=_MERGE).raise_for_status()


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
    _pod(admin, prod, _job(admin, prod), phase="Pending", containerStatuses=[container])
    said = _said(bench)
    assert bench.returncode == 1
    assert "the image cannot be pulled (registry.example.com/tritonllm:bench): no such tag" in said
    # Its dependents are the garbage collector's.
    assert not admin.get(JOBS.format(prod)).json()["items"]


def test_a_quota_is_told(admin: httpx.Client, prod: str, bench: subprocess.Popen[str]) -> None:
    job = _job(admin, prod)
    about = {"kind": "Job", "namespace": prod, "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    event = {
        "metadata": {"name": "x"},
        "involvedObject": about,
        "reason": "FailedCreate",
        "message": "exceeded quota: cpu",
        "type": "Warning",
    }
    admin.post(f"/api/v1/namespaces/{prod}/events", json=event).raise_for_status()
    said = _said(bench)
    assert (bench.returncode, "is not admitted: exceeded quota: cpu" in said) == (1, True)


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
