"""Charts and images of an earlier state, upgraded to those of the sources and rolled back, under load."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness import commands, images, operator, traffic
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes

_BEFORE = Path(__file__).with_name("before")
_POOL_BEFORE = _BEFORE / "tritonllm-pool-0.1.0.tgz"
_OPERATOR_BEFORE = _BEFORE / "tritonllm-operator-0.1.0.tgz"
_CRD = "llmendpoints.tritonllm.io"
_OPERATED = {"operator": {"enabled": True, "namespace": operator.NAMESPACE}}


@pytest.fixture
def before(cluster: Cluster, release: Release) -> Release:
    """The same release of the earlier chart and image, not installed yet."""
    return dataclasses.replace(
        release, chart=_POOL_BEFORE, image=images.load(cluster, images.before(release.image))
    )


@pytest.fixture
def operating(cluster: Cluster, only_operator: operator.Operator) -> operator.Operator:
    """The operator of the earlier chart and image."""
    image = images.load(cluster, images.before(images.operator()))
    only_operator.uninstall()
    # It stays when its chart goes.
    cluster.kubernetes.kubectl("delete", "crd", _CRD, "--ignore-not-found")
    only_operator.apply(image, _OPERATOR_BEFORE)
    return only_operator


def test_a_pool_is_upgraded_and_rolled_back_without_a_failed_request(
    before: Release, release: Release, kubernetes: Kubernetes
) -> None:
    endpoints = {"endpoints": [{"name": "chat", "spec": traffic.SPEC}]}
    before.apply(endpoints)
    with pytest.raises(commands.Failed, match=r"use securityContext\.readOnlyRootFilesystem"):
        release.apply(endpoints | {"readOnlyRootFilesystem": True})
    first = _pods(kubernetes, release)
    with traffic.steady(kubernetes, release.image, "chat", service=release.name) as load:
        with load.window() as upgraded:
            release.apply(endpoints)
            _replaced(kubernetes, release, first)
        second = _pods(kubernetes, release)
        with load.window() as rolled_back:
            release.roll_back()
            _replaced(kubernetes, release, second)
    upgraded.check()
    rolled_back.check()


def test_the_operator_and_then_its_pool_are_upgraded_and_rolled_back_without_a_failed_request(
    cluster: Cluster,
    operating: operator.Operator,
    before: Release,
    release: Release,
    kubernetes: Kubernetes,
) -> None:
    kubernetes.apply(operator.endpoint("chat", release.name, traffic.SPEC))
    before.apply(_OPERATED)
    operator.until(kubernetes, "chat", "Loaded")
    elsewhere = kubernetes.within("default")
    assert _may(elsewhere, "create", "jobs", group="batch")
    assert "image" not in _model_fields(kubernetes)
    first = _pods(kubernetes, release)
    with (
        traffic.steady(kubernetes, release.image, "chat", service=release.name) as load,
        load.window() as window,
    ):
        operating.apply(images.load(cluster, images.operator()))
        assert "image" in _model_fields(kubernetes)
        assert not _may(elsewhere, "create", "jobs", group="batch")
        assert not _may(elsewhere, "patch", "deployments", group="apps")
        changed = traffic.with_phrases("zulu")
        kubernetes.apply(operator.endpoint("chat", release.name, changed))
        refused = operator.until(kubernetes, "chat", "Loaded", "False", reason="MissingRights")
        assert "--reset-then-reuse-values" in refused["message"]

        release.apply(_OPERATED)
        operator.until(kubernetes, "chat", "Loaded", seconds=240)
        _replaced(kubernetes, release, first)
        assert _may(kubernetes, "patch", "deployments", release.name, "apps")

        second = _pods(kubernetes, release)
        release.roll_back()
        operating.roll_back()
        operator.until(kubernetes, "chat", "Loaded", seconds=240)
        _replaced(kubernetes, release, second)
    window.check()


def _pods(kubernetes: Kubernetes, release: Release) -> set[str]:
    """All of them, also those on their way out."""
    return {pod["metadata"]["uid"] for pod in kubernetes.list("pods", release.selector)}


def _replaced(kubernetes: Kubernetes, release: Release, pods: set[str]) -> None:
    commands.until(lambda: not pods & _pods(kubernetes, release), 120, "the pods of before are gone")


def _may(kubernetes: Kubernetes, verb: str, resource: str, name: str = "", group: str = "") -> bool:
    """Whether the operator may do something in a namespace."""
    what = {
        "namespace": kubernetes.namespace,
        "verb": verb,
        "group": group,
        "resource": resource,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{operator.NAMESPACE}:{operator.NAME}",
            "resourceAttributes": what,
        },
    }
    answer = kubernetes.kubectl("create", "--filename", "-", "--output", "json", stdin=json.dumps(review))
    return json.loads(answer)["status"]["allowed"]


def _model_fields(kubernetes: Kubernetes) -> set[str]:
    """Fields of `spec.model` that the CRD knows."""
    (version,) = kubernetes.get("crd", _CRD)["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return set(spec["properties"]["model"]["properties"])
