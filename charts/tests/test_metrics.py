"""Whatever the chart asks Prometheus for is there: autoscaling, alerts and dashboard name only what is exported."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

import chart
from integration import server
from tritonllm.gateway import metrics
from tritonllm.runtime import metric_names

ADAPTER = chart.load((chart.CHART / "files" / "prometheus-adapter-values.yaml").read_text())
(RULE,) = ADAPTER["rules"]["custom"]
DASHBOARD = json.loads((chart.CHART / "files" / "dashboard.json").read_text())
SCALED = {"autoscaling": {"enabled": True}, "weights": {"accessMode": "ReadWriteMany"}}
KEDA = chart.merged(SCALED, {"autoscaling": {"driver": "KEDA", "keda": {"prometheusUrl": "http://p"}}})

SUFFIXES = {"COUNTER": ("",), "GAUGE": ("",), "HISTOGRAM": ("_bucket", "_count", "_sum")}
EXPORTED = {
    f"{family.name}{suffix}"
    for family in (*metric_names.PIPELINE, *metric_names.ENGINE)
    for suffix in SUFFIXES[family.kind]
}
OF_THE_GATEWAY = {
    f"{name}{suffix}"
    for name in metrics.FAMILIES
    for suffix in (SUFFIXES["HISTOGRAM"] if name.endswith("_seconds") else ("",))
}
# What Prometheus itself knows of a series, and what the models put on it.
FOUND_BY_PROMETHEUS = {"namespace", "pod", "tritonllm_io_pool"}
OF_THE_MODELS = {"endpoint", "outcome", "reason"}
# Series of these begin with a rule that asks a classifier, or an adapter; test_classifiers.py and test_serve_adapters.py of
# tritonllm/tests/integration have some.
OF_OTHER_ENDPOINTS = {
    metric_names.JUDGEMENTS,
    f"{metric_names.JUDGEMENT}_bucket",
    metric_names.ADAPTER_REQUESTS,
    metric_names.ADAPTER_OUTPUT_TOKENS,
}
# What a scaler from zero has to ask others for.
OF_KUBE_STATE_METRICS = {"kube_deployment_spec_replicas": {"namespace", "deployment"}}


def alerts() -> dict[str, str]:
    values = {"alerts": {"enabled": True}, "metrics": {"scrape": "PodMonitor"}}
    rules = chart.one(chart.render(values), "PrometheusRule")["spec"]["groups"][0]["rules"]
    return {rule["alert"]: rule["expr"] for rule in rules}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def adapted(query: str) -> str:
    """A query as prometheus-adapter asks it for two pods."""
    return query.replace("<<.LabelMatchers>>", 'namespace="models",pod=~"a|b"').replace("<<.GroupBy>>", "pod")


def expressions() -> Iterator[tuple[str, str]]:
    yield from alerts().items()
    (trigger,) = chart.one(chart.render(KEDA), "ScaledObject")["spec"]["triggers"]
    yield "KEDA", trigger["metadata"]["query"]
    yield "adapter's series", RULE["seriesQuery"]
    yield "adapter's query", adapted(RULE["metricsQuery"])
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            (series,) = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"]).groups()  # pyright: ignore[reportOptionalMemberAccess]
            yield f"variable {variable['name']}", series


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """Every place in an expression that names a metric."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    for part in ("lhs", "rhs", "expr", "param"):
        if (inner := getattr(node, part, None)) is not None:
            yield from selectors(inner)
    if isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from selectors(argument)


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_asks_only_for_metrics_and_labels_that_exist(where: str, expression: str) -> None:
    asked = list(selectors(promql_parser.parse(expression)))
    assert asked
    for selector in asked:
        assert selector.name in EXPORTED | OF_THE_GATEWAY
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= FOUND_BY_PROMETHEUS | OF_THE_MODELS


def test_a_metric_that_nobody_exports_would_be_found() -> None:
    expression = "sum(rate(tritonllm_request_total[5m])) / max by (pod) (tritonllm_requests_runing)"
    names = {selector.name for selector in selectors(promql_parser.parse(expression))}
    assert len(names - EXPORTED) == 2


def test_a_fresh_server_exports_every_metric_and_label_that_is_asked_for() -> None:
    endpoint = """
        apiVersion: tritonllm.io/v1alpha1
        kind: LLMEndpoint
        metadata: {name: chat}
        spec: {pool: llm, engine: {type: simulated}, guardrails: {output: [{name: a, action: Mask, profanity: {}}]}}
    """
    with server.running([endpoint], gateway={}) as served:
        asked = urllib.request.Request(
            f"{served.gateway}/v1/chat/completions",
            json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(asked, timeout=30).read()
        # What autoscaler and alerts follow counts requests that come by the gateway, too.
        counted = 'tritonllm_requests_total{endpoint="chat",outcome="stop"} 1'
        server.until(lambda: counted in read(served.metrics), 60, served.story)
        exported = read(served.metrics) + read(f"{served.gateway}/metrics")
    for where, expression in EXPRESSIONS:
        for selector in selectors(promql_parser.parse(expression)):
            if selector.name in OF_OTHER_ENDPOINTS:
                continue
            series = [line for line in exported.splitlines() if re.match(rf"{selector.name}[{{ ]", line)]
            assert series, f"{where}: {selector.name}"
            for matcher in selector.matchers.matchers:
                if matcher.name in OF_THE_MODELS - {"endpoint"}:
                    for value in matcher.value.split("|"):
                        assert any(f'{matcher.name}="{value}"' in line for line in series), (where, value)


# Who asks gets an answer about its own pool


@pytest.mark.parametrize(("where", "expression"), [*alerts().items(), ("KEDA", dict(EXPRESSIONS)["KEDA"])])
def test_a_pool_asks_about_its_own_pods_only(where: str, expression: str) -> None:
    for selector in selectors(promql_parser.parse(expression)):
        matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert matchers["namespace"] == "models"
        assert matchers["tritonllm_io_pool"] == "llm"


def test_the_label_of_the_pool_arrives_at_prometheus() -> None:
    documents = chart.render({"metrics": {"scrape": "PodMonitor"}})
    monitor = chart.one(documents, "PodMonitor")["spec"]
    labels = chart.one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert [re.sub(r"\W", "_", name) for name in monitor["podTargetLabels"]] == ["tritonllm_io_pool"]
    assert labels["tritonllm.io/pool"] == "llm"


@pytest.mark.parametrize("scrape", ["Annotations", "PodMonitor", "ServiceMonitor", "None"])
def test_prometheus_finds_the_pods_in_one_way_only(scrape: str) -> None:
    documents = chart.render({"metrics": {"scrape": scrape}})
    annotations = chart.one(documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert ("prometheus.io/scrape" in annotations) == (scrape == "Annotations")
    for kind in ("PodMonitor", "ServiceMonitor"):
        assert any(each["kind"] == kind for each in documents) == (scrape == kind)


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
@pytest.mark.parametrize(("gateway", "ports"), [(True, {8002, 8080}), (False, {8002})])
def test_a_monitor_scrapes_the_models_and_the_gateway(kind: str, gateway: bool, ports: set[int]) -> None:
    documents = chart.render({"gateway": {"enabled": gateway}, "metrics": {"scrape": kind}})
    monitor = chart.one(documents, kind)["spec"]
    server_ports = chart.container(chart.pod(documents), "server")["ports"]
    number = {each["name"]: each["containerPort"] for each in server_ports}
    endpoints = monitor.get("podMetricsEndpoints") or monitor["endpoints"]
    assert {number[each["port"]] for each in endpoints} == ports
    assert {each["path"] for each in endpoints} == {"/metrics"}


def test_a_service_monitor_finds_the_one_service_that_has_these_ports() -> None:
    documents = chart.render({"metrics": {"scrape": "ServiceMonitor"}})
    monitor = chart.one(documents, "ServiceMonitor")["spec"]
    assert [re.sub(r"\W", "_", name) for name in monitor["podTargetLabels"]] == ["tritonllm_io_pool"]
    (service,) = [
        each
        for each in documents
        if each["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    labels = chart.one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert {each["name"] for each in service["spec"]["ports"]} == {
        each["port"] for each in monitor["endpoints"]
    }


# Autoscaling


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes() -> None:
    scaler = chart.one(chart.render(SCALED), "HorizontalPodAutoscaler")
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == RULE["name"]["as"]


def test_keda_takes_lost_metrics_for_a_failure_and_not_for_idleness() -> None:
    scaler = chart.one(chart.render(KEDA), "ScaledObject")["spec"]
    assert scaler["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
    assert scaler["fallback"] == {
        "failureThreshold": 3,
        "replicas": 1,
        "behavior": "currentReplicasIfHigher",
    }
    more = chart.merged(KEDA, {"autoscaling": {"keda": {"fallback": {"failureThreshold": 8, "replicas": 3}}}})
    fallback = chart.one(chart.render(more), "ScaledObject")["spec"]["fallback"]
    assert (fallback["failureThreshold"], fallback["replicas"]) == (8, 3)


def test_keda_can_leave_a_pool_without_pods_and_knows_that_from_lost_metrics() -> None:
    cron = {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5"}}
    idle = {"keda": {"idleReplicaCount": 0, "cooldownSeconds": 600, "triggers": [cron]}}
    scaler = chart.one(chart.render(chart.merged(KEDA, {"autoscaling": idle})), "ScaledObject")["spec"]
    assert (scaler["idleReplicaCount"], scaler["minReplicaCount"], scaler["cooldownPeriod"]) == (0, 1, 600)
    assert scaler["triggers"][1] == cron
    expression = promql_parser.parse(scaler["triggers"][0]["metadata"]["query"])
    (replicas,) = [one for one in selectors(expression) if one.name in OF_KUBE_STATE_METRICS]
    matchers = {matcher.name: matcher.value for matcher in replicas.matchers.matchers}
    assert matchers == {"namespace": "models", "deployment": "llm"}
    assert "idleReplicaCount" not in chart.one(chart.render(KEDA), "ScaledObject")["spec"]


def test_an_endpoint_picker_reads_metrics_that_exist() -> None:
    config = chart.load((chart.CHART / "files" / "endpoint-picker-config.yaml").read_text())
    (extractor,) = [one for one in config["plugins"] if one["type"] == "core-metrics-extractor"]
    (engine,) = extractor["parameters"]["engineConfigs"]
    specs = [value for key, value in engine.items() if key.endswith("Spec")]
    assert len(specs) == 3
    for each in specs:
        assert re.fullmatch(r"(\w+)\{endpoint=chat\}", each)[1] in EXPORTED  # pyright: ignore[reportOptionalSubscript]
    labels = chart.one(
        chart.render({"inferencePools": [{"endpoint": "chat", "endpointPicker": {"name": "a"}}]}),
        "Deployment",
    )["spec"]["template"]["metadata"]["labels"]
    assert labels["llm-d.ai/engine-type"] == engine["name"] == extractor["parameters"]["defaultEngine"]


# Alerts


def test_every_endpoint_that_is_not_served_raises_an_alert() -> None:
    both = {
        "alerts": {"enabled": True},
        "endpoints": [chart.endpoint("a"), chart.endpoint("b")],
        "gpu": {"count": 0},
    }
    rules = chart.one(chart.render(both), "PrometheusRule")["spec"]["groups"][0]["rules"]
    missing = [rule for rule in rules if rule["alert"] == "TritonLLMEndpointNotServed"]
    assert [rule["labels"]["endpoint"] for rule in missing] == ["a", "b"]


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = chart.one(chart.render({"alerts": {"enabled": True}}), "PrometheusRule")["spec"]["groups"][0][
        "rules"
    ]
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert all(rule["annotations"][part].endswith(".") for part in ("summary", "description"))


# The dashboard


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_no_panel_of_the_dashboard_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_every_exported_metric_is_on_the_dashboard() -> None:
    shown = {
        selector.name
        for panel in panels()
        for target in panel["targets"]
        for selector in selectors(promql_parser.parse(target["expr"].replace("$__rate_interval", "5m")))
    }
    families = {family.name for family in (*metric_names.PIPELINE, *metric_names.ENGINE)} | set(
        metrics.FAMILIES
    )
    assert {re.sub("_bucket$", "", str(name)) for name in shown} == families


def test_the_dashboard_arrives_as_it_is() -> None:
    config = chart.one(chart.render({"dashboard": {"enabled": True}}), "ConfigMap", "llm-dashboard")
    assert json.loads(config["data"]["tritonllm-pool.json"]) == DASHBOARD
