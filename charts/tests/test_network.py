"""Who reaches which port of a pool, and what its pods reach."""

from __future__ import annotations

import re
from typing import Any

import pytest

import chart
from tritonllm.bench import jobs

OPERATED = {"operator": {"enabled": True, "namespace": "operators"}}
OWN_NAMESPACE: dict[str, Any] = {"podSelector": {}}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
EVERYBODY = "everybody"
# What the API server adds.
METADATA = {"namespace": "prod", "uid": "1"}
EXPOSED: list[dict[str, Any]] = [
    {"ingress": {"enabled": True, "hosts": ["a.example.com"]}},
    {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]}},
    {"service": {"type": "LoadBalancer"}},
    {"service": {"type": "NodePort"}},
]


def policy(values: dict[str, Any], name: str = "llm") -> chart.Document:
    return chart.one(chart.render(values), "NetworkPolicy", name)["spec"]


def peers(values: dict[str, Any], port: str) -> list[Any]:
    """Who reaches a port, besides `helm test`."""
    found: list[Any] = []
    for rule in policy(values)["ingress"]:
        if {"port": port} in rule["ports"]:
            found += rule.get("from", [EVERYBODY])
    return [each for each in found if "test" not in str(each)]


def test_by_default_only_the_gateway_and_metrics_can_be_reached_and_the_rest_by_nobody() -> None:
    assert peers({}, "openai") == [OWN_NAMESPACE, MONITORING]
    assert peers({}, "metrics") == [MONITORING]
    for port in ("http", "grpc", "health"):
        assert peers({}, port) == []


def test_the_operator_reaches_model_control_and_probes_and_nothing_else() -> None:
    (operator,) = peers(OPERATED, "grpc")
    assert peers(OPERATED, "health") == [operator]
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "operators"}
    labels = chart.one(chart.operator({}), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert operator["podSelector"]["matchLabels"].items() <= labels.items()
    for port in ("openai", "http", "metrics"):
        assert operator not in peers(OPERATED, port)


@pytest.mark.parametrize(("values", "port"), [({}, "openai"), ({"gateway": {"enabled": False}}, "http")])
def test_the_pod_of_helm_test_reaches_names_and_the_pool_and_is_reached_by_nobody(
    values: dict[str, Any], port: str
) -> None:
    documents = chart.render(values)
    found = policy(values, "llm-test")
    names, server = found["egress"]
    assert found["ingress"] == []
    assert {each["port"] for each in names["ports"]} == {53}
    assert server["ports"] == [{"port": port}]
    pool = chart.one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert server["to"][0]["podSelector"]["matchLabels"].items() <= pool.items()
    labels = chart.one(documents, "Pod")["metadata"]["labels"]
    assert found["podSelector"]["matchLabels"].items() <= labels.items()
    assert not found["podSelector"]["matchLabels"].items() <= pool.items()


@pytest.mark.parametrize(
    ("values", "ports"), [({}, ["openai"]), ({"service": {"triton": True}}, ["openai", "http"])]
)
def test_a_benchmark_beside_the_pool_reaches_it_and_tokenizers_and_is_reached_by_nobody(
    values: dict[str, Any], ports: list[str]
) -> None:
    documents = chart.render(values | {"benchmark": {"image": "registry.example.com/tritonllm:bench"}})
    found = chart.one(documents, "NetworkPolicy", "llm-benchmark")["spec"]
    deployment = chart.one(documents, "Deployment")
    body = jobs.body("x", deployment | {"metadata": deployment["metadata"] | METADATA}, "image", [], 60)
    labels = body["spec"]["template"]["metadata"]["labels"]
    assert found["podSelector"]["matchLabels"].items() <= labels.items()
    assert found["ingress"] == []
    assert [each["port"] for each in found["egress"][-1]["ports"]] == ports
    server = deployment["spec"]["template"]["metadata"]["labels"]
    assert found["egress"][-1]["to"][0]["podSelector"]["matchLabels"].items() <= server.items()
    assert not found["podSelector"]["matchLabels"].items() <= server.items()
    assert jobs.image(deployment, None) == "registry.example.com/tritonllm:bench"
    (selector,) = [peer for peer in policy(values)["ingress"][0]["from"] if "benchmark" in str(peer)]
    assert selector["podSelector"]["matchLabels"].items() <= labels.items()
    assert labels["app.kubernetes.io/component"] in selector["podSelector"]["matchExpressions"][0]["values"]


def test_a_pool_without_images_for_benchmarks_has_no_policy_for_them() -> None:
    assert not [each for each in chart.render({}) if each["metadata"]["name"] == "llm-benchmark"]


@pytest.mark.parametrize("values", [{"service": {"triton": True}}, {"gateway": {"enabled": False}}])
def test_tritons_ports_are_opened_on_request_to_the_namespace(values: dict[str, Any]) -> None:
    assert peers(values, "http") == peers(values, "grpc") == [OWN_NAMESPACE]


@pytest.mark.parametrize("exposed", EXPOSED)
def test_with_clients_from_outside_everybody_reaches_the_gateway_and_nothing_else(
    exposed: dict[str, Any],
) -> None:
    assert EVERYBODY in peers(exposed, "openai")
    opened = exposed | {"service": exposed.get("service", {}) | {"triton": True}}
    for port in ("http", "grpc", "metrics", "health"):
        assert EVERYBODY not in peers(opened, port)


@pytest.mark.parametrize("exposed", [{}, *EXPOSED])
def test_clients_that_are_named_are_the_only_ones(exposed: dict[str, Any]) -> None:
    named = {"podSelector": {"matchLabels": {"app": "gateway"}}}
    assert peers(exposed | {"networkPolicy": {"clients": [named], "metrics": []}}, "openai") == [named]


def test_an_endpoint_picker_reads_metrics() -> None:
    picker = {"endpoint": "chat", "endpointPicker": {"name": "chat-picker", "port": 9002}}
    values = {"inferencePools": [picker]}
    assert peers(values, "metrics") == [MONITORING, OWN_NAMESPACE]
    assert EVERYBODY in peers(values, "openai")


def test_helm_test_gets_through() -> None:
    documents = chart.render({"networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"a": "b"}}}]}})
    rule = chart.one(documents, "NetworkPolicy", "llm")["spec"]["ingress"][0]
    selector = rule["from"][0]["podSelector"]["matchLabels"]
    assert selector.items() <= chart.one(documents, "Pod")["metadata"]["labels"].items()
    assert {"port": "openai"} in rule["ports"]


def test_a_pool_that_downloads_reaches_dns_and_public_addresses_and_another_one_nothing() -> None:
    for name in ("llm", "llm-weights"):
        dns, hub = policy({}, name)["egress"]
        assert {each["port"] for each in dns["ports"]} == {53}
        assert hub["ports"] == [{"port": 443}]
        blocks = [each["ipBlock"] for each in hub["to"]]
        assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "::/0"]
        # The metadata service of clouds, and networks of clusters.
        assert {"169.254.0.0/16", "10.0.0.0/8"} <= set(blocks[0]["except"])
        offline = policy({"weights": {"sync": {"enabled": False}}}, name)
        assert offline["egress"] == []
        assert "Egress" in offline["policyTypes"]


def test_jobs_that_download_are_under_a_policy_of_their_own_that_lets_nobody_in() -> None:
    found = policy(OPERATED, "llm-weights")
    assert found["podSelector"]["matchLabels"] == {"tritonllm.io/pool": "llm"}
    (component,) = found["podSelector"]["matchExpressions"]
    assert component == {
        "key": "app.kubernetes.io/component",
        "operator": "In",
        "values": ["weights", "weights-gc"],
    }
    assert found["ingress"] == []
    assert not [
        each
        for each in chart.render({"weights": {"enabled": False}, "endpoints": [SIMULATED]})
        if each["metadata"]["name"] == "llm-weights"
    ]


SIMULATED = {"name": "chat", "spec": {"engine": {"type": "simulated"}, "guardrails": {}}}


def test_the_policies_can_be_left_to_others() -> None:
    documents = chart.render({"networkPolicy": {"enabled": False}})
    assert not [each for each in documents if each["kind"] == "NetworkPolicy"]


def test_from_outside_only_the_gateways_api_can_be_reached() -> None:
    documents = chart.render(EXPOSED[0] | EXPOSED[1] | {"service": {"triton": True}})
    (rule,) = chart.one(documents, "Ingress")["spec"]["rules"]
    assert [(path["path"], path["backend"]["service"]["port"]) for path in rule["http"]["paths"]] == [
        ("/v1", {"name": "openai"})
    ]
    (rule,) = chart.one(documents, "HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1"}}]
    assert rule["backendRefs"][0]["port"] == 8080


MIRROR = {"weights": {"sync": {"endpointUrl": "http://hub:8080"}}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (EXPOSED[0], "ingress.enabled is true, but gateway.enabled is false"),
        (EXPOSED[1], "httpRoute.enabled is true, but gateway.enabled is false"),
        (
            EXPOSED[2],
            "service.type is LoadBalancer, but the NetworkPolicy only lets pods of the namespace reach",
        ),
    ],
)
def test_tritons_ports_are_not_exposed_by_mistake(values: dict[str, Any], said: str) -> None:
    with pytest.raises(chart.Refused, match=re.escape(said)):
        chart.render(values | {"gateway": {"enabled": False}})


@pytest.mark.parametrize(
    ("url", "hub", "said"),
    [
        ("http://hub:8080", {}, "networkPolicy.hub.ports does not contain 8080"),
        ("http://hub.example.com", {}, "networkPolicy.hub.ports does not contain 80,"),
        ("https://hub", {}, "which networkPolicy.hub.peers does not permit"),
        ("https://hub.models.svc", {}, "which networkPolicy.hub.peers does not permit"),
    ],
)
def test_a_mirror_that_the_policy_would_block_is_refused(url: str, hub: dict[str, Any], said: str) -> None:
    values = {"weights": {"sync": {"endpointUrl": url}}, "networkPolicy": {"hub": hub}}
    with pytest.raises(chart.Refused, match=re.escape(said)):
        chart.render(values)
    assert chart.render(values | {"networkPolicy": {"enabled": False}})


@pytest.mark.parametrize(
    ("url", "hub"),
    [
        ("https://hub.example.com", {}),
        ("https://hub.example.com:8443/models", {"ports": [8443]}),
        ("http://hub:8080", {"ports": [8080], "peers": [OWN_NAMESPACE]}),
    ],
)
def test_a_mirror_that_the_policy_permits_is_rendered(url: str, hub: dict[str, Any]) -> None:
    assert policy({"weights": {"sync": {"endpointUrl": url}}, "networkPolicy": {"hub": hub}})
