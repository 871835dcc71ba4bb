"""The cluster, images and namespaces that scenarios ask for, and what is printed when one fails."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import cluster as clusters
from harness import diagnosis, images, network, operator
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes
from tritonllm import paths

_FAILURE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster", "KUBECONFIG's cluster is used where it is set, else one of kind")
    group.addoption("--cluster-name", default="tritonllm-e2e", help="Name of the kind cluster.")
    group.addoption("--workers", type=int, default=0, help="Its nodes beside the first.")
    group.addoption(
        "--node-image",
        default=os.environ.get("KIND_NODE_IMAGE", ""),
        help="What its nodes run; default: kind's own.",
    )
    group.addoption(
        "--prometheus-image",
        default=os.environ.get("PROMETHEUS_IMAGE", "quay.io/prometheus/prometheus:v3.5.0"),
        help="What the autoscaling scenario runs.",
    )
    group.addoption(
        "--adapter-image",
        default=os.environ.get(
            "PROMETHEUS_ADAPTER_IMAGE", "registry.k8s.io/prometheus-adapter/prometheus-adapter:v0.12.0"
        ),
        help="What the autoscaling scenario runs.",
    )
    group.addoption(
        "--network-policies-image",
        default=os.environ.get("KUBE_NETWORK_POLICIES_IMAGE", ""),
        help="kube-network-policies, where the network of the cluster does not enforce NetworkPolicies itself.",
    )
    group.addoption("--keep-cluster", action="store_true", help="Leave it; the next run uses it again.")
    group.addoption(
        "--allow-context", action="append", default=[], help="A context of KUBECONFIG that tests may use."
    )


def pytest_configure() -> None:
    # As Ctrl-C: fixtures take back what they made. CI stops a run like this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster of this run, whose network enforces NetworkPolicies where that can be had."""
    image = str(request.config.getoption("--network-policies-image"))
    with _cluster(request) as found, network.enforcing(found, image):
        yield found


@contextlib.contextmanager
def _cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    def option(name: str) -> Any:
        return request.config.getoption(name)

    if kubeconfig := os.environ.get("KUBECONFIG"):
        yield clusters.existing(kubeconfig, option("--allow-context"))
        return
    if shutil.which("docker") is None or shutil.which("kind") is None:
        pytest.exit(
            "no KUBECONFIG, and docker or kind is not on PATH; see e2e/README.md",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    with clusters.own(
        option("--cluster-name"), option("--workers"), option("--node-image"), keep=option("--keep-cluster")
    ) as made:
        yield made


@pytest.fixture(scope="session")
def small(cluster: Cluster) -> str:
    """The image with the simulated engine only, on every node."""
    return images.load(cluster, images.triton_cpu("small"))


@pytest.fixture(scope="session")
def full(cluster: Cluster) -> str:
    """The image with vLLM, on every node."""
    return images.load(cluster, images.triton_cpu("full"))


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The directory of a small real model, with its tokenizer."""
    weights = Path(os.environ.get("TRITONLLM_WEIGHTS") or paths.weights())
    command = [sys.executable, str(images.ROOT / "tools/demo_model.py")]
    subprocess.run(command, check=True, env=os.environ | {"TRITONLLM_WEIGHTS": str(weights)})
    return weights / "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def only_operator(cluster: Cluster) -> Iterator[operator.Operator]:
    """The operator of this run, in whatever version a test installs."""
    with operator.alone(cluster.kubernetes) as found:
        yield found


@pytest.fixture(scope="module")
def operating(cluster: Cluster, only_operator: operator.Operator) -> operator.Operator:
    """The operator of the sources."""
    only_operator.apply(images.load(cluster, images.operator()))
    return only_operator


@pytest.fixture
def kubernetes(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubernetes]:
    """A namespace of the test's own, under the restricted Pod Security Standard."""
    words = re.sub("[^a-z0-9]+", "-", request.node.name.lower())
    namespace = f"e2e-{words[:40].strip('-')}-{uuid.uuid4().hex[:6]}"
    made = cluster.kubernetes.within(namespace)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.kubernetes.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    )
    yield made
    if failure := request.node.stash.get(_FAILURE, ""):
        print(f"--- {failure}\n{diagnosis.story(made)}")
    # Nobody waits for the pods in it to end.
    cluster.kubernetes.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def release(kubernetes: Kubernetes, small: str, request: pytest.FixtureRequest) -> Release:
    """A release of the scenario's values.yaml, not installed yet."""
    return Release(kubernetes, "llm", (Path(request.path).parent / "values.yaml",), small)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.excinfo:
        item.stash[_FAILURE] = call.excinfo.exconly()
    return report
