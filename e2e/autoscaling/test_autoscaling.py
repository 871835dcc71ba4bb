"""The HorizontalPodAutoscaler on the pool's own metric, and what its users see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ruamel.yaml

from harness import commands, helm, images, traffic
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes

_MONITORING = Path(__file__).with_name("monitoring.yaml")
_RULES = helm.CHART / "files/prometheus-adapter-values.yaml"
_API = "v1beta1.custom.metrics.k8s.io"


@pytest.fixture
def monitoring(cluster: Cluster, kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[None]:
    """Prometheus and prometheus-adapter with the rule of the chart."""
    shipped = ruamel.yaml.YAML(typ="safe").load(_RULES)
    text = _MONITORING.read_text()
    for word, value in {
        "PROMETHEUS": images.pulled(cluster, str(request.config.getoption("--prometheus-image"))),
        "ADAPTER": images.pulled(cluster, str(request.config.getoption("--adapter-image"))),
        "RULES": json.dumps({"rules": shipped["rules"]["custom"]}),
        "NAMESPACE": kubernetes.namespace,
    }.items():
        text = text.replace(word, value)
    everywhere = cluster.kubernetes
    try:
        everywhere.kubectl("apply", "--filename", "-", stdin=text)
        for deployment in ("prometheus", "adapter"):
            kubernetes.rolled_out(deployment)
        everywhere.wait("apiservice", "condition=Available", name=_API)
        yield
    finally:
        # First of all: an API without its server lets no namespace of the cluster end.
        everywhere.kubectl("delete", "apiservice", _API, "--ignore-not-found")
        everywhere.kubectl("delete", "--ignore-not-found", "--filename", "-", "--wait=false", stdin=text)


@pytest.mark.usefixtures("monitoring")
def test_load_brings_three_pods_and_their_end_fails_no_request(
    release: Release, kubernetes: Kubernetes
) -> None:
    release.apply()
    with traffic.steady(kubernetes, release.image, "chat", service=release.name, workers=2) as light:
        with (
            light.window() as growing,
            traffic.steady(kubernetes, release.image, "chat", service=release.name, workers=30, pod="heavy"),
        ):
            commands.until(lambda: len(kubernetes.ready(release.selector)) == 3, 180, "three pods are ready")
        with light.window() as shrinking:
            commands.until(
                lambda: len(kubernetes.list("pods", release.selector)) == 1, 240, "one pod is left"
            )
    growing.check()
    shrinking.check()
