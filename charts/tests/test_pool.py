"""What a pool's values do to its documents, one promise a test."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
import yaml

import chart

TWO = {
    "endpoints": [chart.endpoint("chat"), chart.endpoint("code", model={"repo": "org/code"})],
    "gpu": {"count": 0},
}
SIMULATED = {
    "endpoints": [{"name": "pretend", "spec": {"engine": {"type": "simulated"}, "guardrails": {}}}],
    "gpu": {"count": 0},
    "weights": {"enabled": False},
}
OPERATED = {"operator": {"enabled": True}}
SCALED = {"autoscaling": {"enabled": True}, "weights": {"accessMode": "ReadWriteMany"}}


def deployment(values: dict[str, Any]) -> chart.Document:
    return chart.one(chart.render(values), "Deployment")


def server(values: dict[str, Any]) -> chart.Document:
    return chart.container(chart.pod(chart.render(values)), "server")


def template(values: dict[str, Any]) -> chart.Document:
    return deployment(values)["spec"]["template"]


def names(values: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in chart.render(values)}


# GPUs


def test_a_pod_gets_its_gpus_beside_the_other_limits() -> None:
    assert server({"resources": {"limits": {"cpu": "8"}}})["resources"]["limits"] == {
        "cpu": "8",
        "memory": "16Gi",
        "nvidia.com/gpu": 1,
    }


def test_a_pool_on_cpus_asks_for_no_gpu() -> None:
    assert set(server(SIMULATED)["resources"]["limits"]) == {"memory"}


def test_a_rollout_does_not_wait_for_gpus_that_are_not_there() -> None:
    assert deployment({})["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_rollout_can_surge() -> None:
    values = {"weights": {"accessMode": "ReadWriteMany"}, "rollout": {"maxSurge": "50%", "maxUnavailable": 0}}
    assert deployment(values)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "50%", "maxUnavailable": 0}


# Rolling only for a reason


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {}, "alerts": {"enabled": True}, "dashboard": {"enabled": True}},
        {"service": {"type": "NodePort"}, "networkPolicy": {"enabled": True}},
        {"podDisruptionBudget": {"enabled": True}},
        {"test": {"prompt": "Hi."}, "apiSecret": {"value": "another"}},
        {"replicas": 2, "weights": {"accessMode": "ReadWriteMany"}},
    ],
)
def test_what_is_not_the_pods_does_not_roll_them(change: dict[str, Any]) -> None:
    assert template(change) == template({})


def test_a_new_release_of_the_chart_alone_does_not_roll_the_pods() -> None:
    labels = template({})["metadata"]["labels"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


def test_pods_are_told_which_engine_endpoints_are_checked_against() -> None:
    server = chart.container(chart.pod(chart.render({"image": {"runtime": "vllm-0.25.1"}})), "server")
    assert "--runtime=vllm-0.25.1" in server["args"]


def test_the_entry_point_of_the_image_runs() -> None:
    assert "command" not in chart.container(chart.pod(chart.render({})), "server")


def test_a_changed_endpoint_rolls_the_pods() -> None:
    changed = {"endpoints": [chart.endpoint(guardrails={"failurePolicy": "Open"})]}
    assert template(changed) != template({})


def test_with_the_operator_a_changed_endpoint_does_not_roll_them() -> None:
    changed = OPERATED | {"endpoints": [chart.endpoint(guardrails={"failurePolicy": "Open"})]}
    assert template(changed) == template(OPERATED)


# Endpoints


def test_without_the_operator_the_pods_boot_from_the_charts_own_file() -> None:
    documents = chart.render(TWO)
    config = chart.one(documents, "ConfigMap", "llm-endpoints-static")
    spec = chart.pod(documents)
    assert {"name": "endpoints", "configMap": {"name": "llm-endpoints-static"}} in spec["volumes"]
    assert chart.container(spec, "server")["args"][:2] == ["serve", "/etc/tritonllm/endpoints.yaml"]
    assert "--endpoints=/etc/tritonllm/endpoints.yaml" in chart.container(spec, "weights")["args"]
    assert [each["metadata"]["name"] for each in chart.load_all(config["data"]["endpoints.yaml"])] == [
        "chat",
        "code",
    ]


def test_with_the_operator_the_endpoints_are_resources_and_the_file_is_the_operators() -> None:
    documents = chart.render(OPERATED)
    assert chart.one(documents, "LLMEndpoint")["spec"]["pool"] == "llm"
    assert not [each for each in documents if each["kind"] == "ConfigMap"]
    spec = chart.pod(documents)
    assert {"name": "endpoints", "configMap": {"name": "llm-endpoints"}} in spec["volumes"]
    for name in ("server", "weights"):
        each = chart.container(spec, name)
        assert any("/etc/tritonllm/revision-$(TRITONLLM_REVISION).yaml" in part for part in each["args"])
        (revision,) = [one for one in each["env"] if one["name"] == "TRITONLLM_REVISION"]
        assert "tritonllm.io/revision" in revision["valueFrom"]["fieldRef"]["fieldPath"]


def test_the_operator_may_read_this_pools_secret_and_nothing_else() -> None:
    role = chart.one(chart.render(OPERATED), "Role")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["llm-api"], "verbs": ["get"]}
    ]
    assert not any(kind == "Role" for kind, _ in names({}))


def test_the_operator_finds_what_it_must_know_in_the_annotations() -> None:
    documents = chart.render(
        {
            "operator": {"enabled": True},
            "apiSecret": {"existingSecret": "mine", "key": "word"},
            "drain": {"seconds": 450},
            "gpu": {"count": 4},
            "endpoints": [],
        }
    )
    annotations = chart.one(documents, "Deployment")["metadata"]["annotations"]
    assert annotations == {
        "tritonllm.io/runtime": "vllm-0.24.0",
        "tritonllm.io/operator": "true",
        "tritonllm.io/api-secret": "mine",
        "tritonllm.io/api-secret-key": "word",
        "tritonllm.io/drain-seconds": "450",
        "tritonllm.io/gpus": "4",
        "tritonllm.io/weights": "Own",
    }
    role = chart.one(documents, "Role")
    assert role["rules"][0]["resourceNames"] == [annotations["tritonllm.io/api-secret"]]


def test_a_pool_without_the_operator_says_so() -> None:
    annotations = deployment({})["metadata"]["annotations"]
    assert annotations["tritonllm.io/operator"] == "false"
    assert annotations["tritonllm.io/api-secret"] == "llm-api"


@pytest.mark.parametrize(
    ("weights", "sharing"),
    [
        ({}, "Own"),
        ({"accessMode": "ReadWriteOncePod"}, "Own"),
        ({"accessMode": "ReadWriteMany"}, "Shared"),
        ({"accessMode": "ReadOnlyMany", "sync": {"enabled": False}}, "Shared"),
        ({"type": "ExistingClaim", "existingClaim": "a", "accessMode": "ReadWriteMany"}, "Shared"),
        ({"type": "Ephemeral", "accessMode": "ReadWriteMany"}, "Own"),
    ],
)
def test_the_operator_is_told_whether_another_pod_can_mount_the_weights(
    weights: dict[str, Any], sharing: str
) -> None:
    annotations = deployment({"weights": weights})["metadata"]["annotations"]
    assert annotations["tritonllm.io/weights"] == sharing


def test_the_operator_is_told_that_there_are_no_weights() -> None:
    assert deployment(SIMULATED)["metadata"]["annotations"]["tritonllm.io/weights"] == "None"


def test_the_revision_of_the_pods_is_the_operators_alone() -> None:
    for values in ({}, OPERATED):
        assert "tritonllm.io/revision" not in template(values)["metadata"]["annotations"]


def test_helm_test_asks_every_endpoint() -> None:
    asking = chart.one(chart.render(TWO | {"gateway": {"enabled": False}}), "Pod")["spec"]["containers"]
    assert [each["command"] + each["args"][:1] for each in asking] == [
        ["tritonllm", "generate", "chat"],
        ["tritonllm", "generate", "code"],
    ]
    assert all("--url=http://llm:8000" in each["args"] for each in asking)


def test_with_the_gateway_helm_test_asks_over_openais_api_with_the_created_key() -> None:
    asking = chart.one(chart.render(TWO | {"gateway": {}}), "Pod")["spec"]["containers"]
    for name, each in zip(("chat", "code"), asking, strict=True):
        compile(each["args"][0], "test", "exec")
        assert f'"model": "{name}"' in each["args"][0]
        assert "http://llm:8080/v1/chat/completions" in each["args"][0]
        [key] = [item for item in each["env"] if item["name"] == "OPENAI_API_KEY"]
        assert key["valueFrom"]["secretKeyRef"] == {
            "name": "llm-api-keys",
            "key": "default",
            "optional": True,
        }


def test_the_created_secret_has_a_key_and_the_gateway_only_its_hash() -> None:
    documents = chart.render({"gateway": {}})
    secret = chart.one(documents, "Secret", "llm-api-keys")["data"]
    key = base64.b64decode(secret["default"]).decode()
    assert re.fullmatch(r"sk-[A-Za-z0-9]{43}", key)
    entries = yaml.safe_load(base64.b64decode(secret["keys.yaml"]))
    assert entries == {"default": {"sha256": hashlib.sha256(key.encode()).hexdigest()}}
    pod = chart.one(documents, "Deployment")["spec"]["template"]["spec"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "api-keys"]
    assert volume["secret"]["items"] == [{"key": "keys.yaml", "path": "keys.yaml"}]
    assert "--api-keys=/var/run/secrets/tritonllm/api-keys" in pod["containers"][0]["args"]


def test_keys_of_ones_own_are_mounted_and_without_keys_the_gateway_says_so() -> None:
    own = {"gateway": {"apiKeys": {"existingSecret": "mine"}}}
    documents = chart.render(own)
    assert [each["metadata"]["name"] for each in documents if each["kind"] == "Secret"] == ["llm-api"]
    pod = chart.one(documents, "Deployment")["spec"]["template"]["spec"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "api-keys"]
    assert volume["secret"] == {"secretName": "mine"}
    opened = chart.one(chart.render({"gateway": {"allowAnonymous": True}}), "Deployment")["spec"]["template"][
        "spec"
    ]
    assert "--allow-anonymous" in opened["containers"][0]["args"]
    assert not [each for each in opened["volumes"] if each["name"] == "api-keys"]


def test_the_gateway_is_the_only_port_of_the_service_unless_triton_is_asked_for() -> None:
    def ports(values: dict[str, Any]) -> list[int]:
        return [port["port"] for port in chart.one(chart.render(values), "Service", "llm")["spec"]["ports"]]

    assert ports({}) == [8080]
    assert ports({"service": {"triton": True}}) == [8080, 8000, 8001, 8002]
    assert ports({"gateway": {"enabled": False}}) == [8000, 8001, 8002]
    policy = chart.one(chart.render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"][
        "ingress"
    ][0]
    assert policy["ports"] == [{"port": "openai"}]


def test_services_select_the_serving_pods_only() -> None:
    documents = chart.render({"service": {"triton": True}})
    labels = chart.one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    asking = chart.one(documents, "Pod")["metadata"]["labels"]
    for name in ("llm", "llm-headless"):
        selector = chart.one(documents, "Service", name)["spec"]["selector"]
        assert selector.items() <= labels.items()
        assert not selector.items() <= asking.items()


# Weights


def test_a_claim_outlives_the_release() -> None:
    claim = chart.one(chart.render({}), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_an_existing_claim_is_used_and_none_is_made() -> None:
    values = {"weights": {"type": "ExistingClaim", "existingClaim": "models"}}
    documents = chart.render(values)
    assert not [each for each in documents if each["kind"] == "PersistentVolumeClaim"]
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "models"}} in chart.pod(documents)[
        "volumes"
    ]


def test_ephemeral_weights_belong_to_one_pod() -> None:
    documents = chart.render({"weights": {"type": "Ephemeral", "size": "5Gi"}})
    assert not [each for each in documents if each["kind"] == "PersistentVolumeClaim"]
    (volume,) = [each for each in chart.pod(documents)["volumes"] if each["name"] == "weights"]
    claim = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"]["requests"]["storage"] == "5Gi"


def test_without_weights_there_is_no_volume_and_nobody_syncs() -> None:
    spec = chart.pod(chart.render(SIMULATED))
    assert "initContainers" not in spec
    assert "weights" not in {volume["name"] for volume in spec["volumes"]}
    assert not [part for part in chart.container(spec, "server")["args"] if "weights" in part]


def test_weights_that_are_there_are_served_without_a_sync() -> None:
    spec = chart.pod(chart.render({"weights": {"sync": {"enabled": False}}}))
    assert "initContainers" not in spec
    assert "--weights=/weights" in chart.container(spec, "server")["args"]


def test_a_failed_sync_says_why_in_its_termination_message() -> None:
    weights = chart.container(chart.pod(chart.render({})), "weights")
    assert "--termination-message=/dev/termination-log" in weights["args"]
    assert weights["terminationMessagePolicy"] == "File"


# Start and end


def test_a_start_may_take_as_long_as_it_says() -> None:
    probe = server({"startup": {"timeoutSeconds": 3602}})["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3602


def test_probes_ask_the_supervisor() -> None:
    each = server({})
    probes = {key: each[key]["httpGet"] for key in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {
        "startupProbe": {"path": "/readyz", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
        "livenessProbe": {"path": "/livez", "port": "health"},
    }
    assert {"name": "health", "containerPort": 8003} in each["ports"]


@pytest.mark.parametrize(("drain", "sleep"), [(300, 5), (900, 0)])
def test_the_grace_period_has_room_for_sleep_drain_and_unloading(drain: int, sleep: int) -> None:
    spec = chart.pod(chart.render({"drain": {"seconds": drain, "preStopSeconds": sleep}}))
    assert spec["terminationGracePeriodSeconds"] == drain + sleep + 15
    each = chart.container(spec, "server")
    assert f"--drain-seconds={drain}" in each["args"]
    assert each.get("lifecycle") == ({"preStop": {"sleep": {"seconds": sleep}}} if sleep else None)


# Autoscaling


@pytest.mark.parametrize("driver", ["HPA", "KEDA"])
def test_an_autoscaler_alone_says_how_many_pods(driver: str) -> None:
    keda = {"keda": {"prometheusUrl": "http://prometheus"}} if driver == "KEDA" else {}
    values = chart.merged(SCALED, {"autoscaling": {"driver": driver} | keda})
    kinds = {kind for kind, _ in names(values)}
    assert "replicas" not in deployment(values)["spec"]
    assert kinds & {"HorizontalPodAutoscaler", "ScaledObject"} == {
        "HorizontalPodAutoscaler" if driver == "HPA" else "ScaledObject"
    }


@pytest.mark.parametrize(
    ("target", "quantity"), [(0.75, "750m"), (0.29, "290m"), (1.5, "1500m"), (2, "2000m")]
)
def test_the_target_is_a_quantity_of_kubernetes(target: float, quantity: str) -> None:
    scaler = chart.one(
        chart.render(chart.merged(SCALED, {"autoscaling": {"targetSaturation": target}})),
        "HorizontalPodAutoscaler",
    )
    assert scaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"] == quantity


# The lock of Triton's APIs


def test_the_secret_is_a_file_of_the_server() -> None:
    documents = chart.render({"apiSecret": {"value": "hush"}})
    secret = chart.one(documents, "Secret", "llm-api")
    assert base64.b64decode(secret["data"]["key"]) == b"hush"
    each = chart.container(chart.pod(documents), "server")
    assert "--api-secret-file=/var/run/secrets/tritonllm/api/key" in each["args"]
    assert "hush" not in str(each)


def test_a_secret_that_nobody_gave_is_long_and_random() -> None:
    values = yaml.safe_dump(chart.SMALL)
    found = []
    for _ in range(2):
        chart.template.cache_clear()
        documents = chart.load_all(chart.template(values, "llm"))
        found.append(base64.b64decode(chart.one(documents, "Secret", "llm-api")["data"]["key"]))
    assert found[0] != found[1]
    assert len(found[0]) == 48


def test_an_existing_secret_is_used_and_none_is_made() -> None:
    documents = chart.render({"apiSecret": {"existingSecret": "mine", "key": "word"}})
    assert "llm-api" not in [each["metadata"]["name"] for each in documents if each["kind"] == "Secret"]
    (volume,) = [each for each in chart.pod(documents)["volumes"] if each["name"] == "api-secret"]
    assert volume["secret"] == {"secretName": "mine", "items": [{"key": "word", "path": "key"}]}


# Network


def test_only_a_pool_that_downloads_may_reach_the_outside() -> None:
    on = {"networkPolicy": {"enabled": True}}
    assert len(chart.one(chart.render(on), "NetworkPolicy")["spec"]["egress"]) == 2
    offline = chart.one(chart.render(on | {"weights": {"sync": {"enabled": False}}}), "NetworkPolicy")
    assert offline["spec"]["egress"] == []
    assert "Egress" in offline["spec"]["policyTypes"]


def test_the_health_port_is_open_to_the_operator_only() -> None:
    def opened(values: dict[str, Any]) -> set[str]:
        policy = chart.one(chart.render({"networkPolicy": {"enabled": True}} | values), "NetworkPolicy")
        return {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}

    assert opened({}) == {"openai", "metrics"}
    assert opened({"service": {"triton": True}}) == {"openai", "http", "grpc", "metrics"}
    assert opened(OPERATED) == {"openai", "http", "grpc", "metrics", "health"}


def test_helm_test_gets_through_the_network_policy() -> None:
    documents = chart.render({"networkPolicy": {"enabled": True, "clients": []}})
    peers = chart.one(documents, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    selector = peers[0]["podSelector"]["matchLabels"]
    assert selector.items() <= chart.one(documents, "Pod")["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("gateway", "expected", "port", "number"),
    [(True, "/v1", "openai", 8080), (False, "/v2/models", "http", 8000)],
)
def test_from_outside_only_models_can_be_reached(
    gateway: bool, expected: str, port: str, number: int
) -> None:
    values = {
        "gateway": {"enabled": gateway},
        "ingress": {"enabled": True, "hosts": ["a.example.com"]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
    }
    documents = chart.render(values)
    (rule,) = chart.one(documents, "Ingress")["spec"]["rules"]
    assert [(path["path"], path["backend"]["service"]["port"]) for path in rule["http"]["paths"]] == [
        (expected, {"name": port})
    ]
    (rule,) = chart.one(documents, "HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": expected}}]
    assert rule["backendRefs"][0]["port"] == number


# Odds and ends


def test_what_is_optional_is_off() -> None:
    assert {kind for kind, _ in names({})} == {
        "ConfigMap",
        "Deployment",
        "PersistentVolumeClaim",
        "Pod",
        "Secret",
        "Service",
        "ServiceAccount",
    }


def test_an_image_is_named_by_its_digest_where_there_is_one() -> None:
    digest = f"sha256:{'0' * 64}"
    assert server({"image": {"tag": "1.2"}})["image"] == "registry.example.com/tritonllm:1.2"
    assert server({"image": {"digest": digest}})["image"].endswith(f"@{digest}")


def test_a_spread_without_a_selector_means_the_pools_own_pods() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = {"labelSelector": {"matchLabels": {"a": "b"}}}
    documents = chart.render({"topologySpreadConstraints": [spread, spread | own]})
    first, second = chart.pod(documents)["topologySpreadConstraints"]
    assert first["labelSelector"] == chart.one(documents, "Deployment")["spec"]["selector"]
    assert second == spread | own


def test_everything_is_named_after_the_release() -> None:
    one, other = (chart.render({"apiSecret": {"value": "x"}}, release=name) for name in ("a", "b"))
    assert {each["metadata"]["name"][0] for each in one} == {"a"}
    assert {each["metadata"]["name"][0] for each in other} == {"b"}
    chosen = chart.one(one, "Deployment")["spec"]["selector"]["matchLabels"]
    labels = chart.one(other, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not chosen.items() <= labels.items()


def test_every_document_says_which_pool_it_belongs_to() -> None:
    for document in chart.render(chart.HERE / "values" / "everything-on.yaml"):
        assert document["metadata"]["labels"]["tritonllm.io/pool"] == "llm"
        assert document["metadata"]["labels"]["team"] == "search"
