"""The values for GKE, EKS, OpenShift and an air gap in examples/pools can be installed as they are."""

from __future__ import annotations

from typing import Any

import pytest

import chart
from test_kubernetes_schemas import NEWEST, OLDEST, check
from test_pod_security import pods, violations

EXAMPLES = sorted((chart.CHART.parents[1] / "examples" / "pools").glob("*.yaml"))


def example(name: str) -> list[chart.Document]:
    return chart.render(next(path for path in EXAMPLES if path.stem == name))


def test_there_is_one_for_each_platform() -> None:
    assert [path.stem for path in EXAMPLES] == ["air-gap", "eks", "gke", "openshift"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_every_document_is_valid(values: chart.Path, version: str) -> None:
    """But for the platforms' own kinds, of which no schema is here."""
    extra = {each["kind"] for each in chart.load(values.read_text()).get("extraObjects", [])}
    for document in chart.render(values, f"--kube-version={version}"):
        if document["kind"] in extra:
            assert document["metadata"]["name"] == "llm"
            assert "{{" not in str(document)
        else:
            check(document, version)


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_every_pod_is_restricted(values: chart.Path) -> None:
    for spec in pods(values):
        assert list(violations(spec)) == []


def test_objects_of_a_platform_refer_to_the_service_of_the_pool() -> None:
    service = {"kind": "Service", "name": chart.one(example("gke"), "Service")["metadata"]["name"]}
    for kind in ("GCPBackendPolicy", "HealthCheckPolicy"):
        assert service.items() <= chart.one(example("gke"), kind)["spec"]["targetRef"].items()
    assert chart.one(example("openshift"), "Route")["spec"]["to"] == service


@pytest.mark.parametrize("name", ["eks", "gke", "openshift"])
def test_no_platform_cuts_an_answer_before_the_endpoint_does(name: str) -> None:
    """An answer that does not stream is silent until it is complete: 300 s by default, and some for the way."""
    longest: dict[str, Any] = {
        "eks": lambda: chart.one(example("eks"), "Ingress")["metadata"]["annotations"][
            "alb.ingress.kubernetes.io/load-balancer-attributes"
        ].removeprefix("idle_timeout.timeout_seconds="),
        "gke": lambda: chart.one(example("gke"), "GCPBackendPolicy")["spec"]["default"]["timeoutSec"],
        "openshift": lambda: chart.one(example("openshift"), "Route")["metadata"]["annotations"][
            "haproxy.router.openshift.io/timeout"
        ].removesuffix("s"),
    }
    assert int(longest[name]()) > 300
