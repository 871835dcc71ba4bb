"""What a pool's values do to its documents, one promise a test."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
import yaml

import chart
from tritonllm import serve

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


def test_gpus_can_be_claimed_from_dynamic_resource_allocation() -> None:
    claim = {"name": "gpu", "resourceClaimTemplateName": "one-h100"}
    spec = chart.pod(chart.render({"gpu": {"resourceClaims": [claim]}}, "--kube-version=1.35.0"))
    assert spec["resourceClaims"] == [claim]
    resources = chart.container(spec, "server")["resources"]
    assert resources["claims"] == [{"name": "gpu"}]
    assert set(resources["limits"]) == {"memory"}
    assert "claims" not in chart.container(spec, "weights")["resources"]


# Anything else of the pods


PATCH = {
    "podTemplate": {
        "metadata": {"annotations": {"a": "b", "prometheus.io/scrape": None}},
        "spec": {
            "schedulerName": "volcano",
            "enableServiceLinks": None,
            "tolerations": [{"operator": "Exists"}],
            "volumes": [{"name": "cache", "emptyDir": None, "hostPath": {"path": "/mnt/cache"}}],
            "containers": [
                {"name": "server", "env": [{"name": "NCCL_DEBUG", "value": "WARN"}], "tty": True},
                {"name": "agent", "image": "registry.example.com/agent:1"},
            ],
        },
    }
}


def test_a_pod_template_is_merged_by_the_names_of_what_is_in_lists() -> None:
    before, after = template({})["spec"], template(PATCH)["spec"]
    assert (after["schedulerName"], after["tolerations"]) == ("volcano", [{"operator": "Exists"}])
    assert "enableServiceLinks" not in after
    assert [each["name"] for each in after["containers"]] == ["server", "agent"]
    server, was = after["containers"][0], before["containers"][0]
    assert server == was | {"tty": True, "env": [*was["env"], {"name": "NCCL_DEBUG", "value": "WARN"}]}
    volumes = {each["name"]: each for each in after["volumes"]}
    assert volumes["cache"] == {"name": "cache", "hostPath": {"path": "/mnt/cache"}}
    assert [name for name in volumes if name != "cache"] == [
        each["name"] for each in before["volumes"] if each["name"] != "cache"
    ]


def test_a_pod_template_changes_nothing_else() -> None:
    annotations = template(PATCH)["metadata"]["annotations"]
    assert annotations["a"] == "b"
    assert "prometheus.io/scrape" not in annotations
    empty = {"podTemplate": {"spec": {"enableServiceLinks": False}}}
    assert template(empty) == template({})


def test_extra_objects_are_templates() -> None:
    name = "{{ .Release.Name }}-mine"
    objects = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}},
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: '{name}'}}",
    ]
    found = names({"extraObjects": objects})
    assert {("ConfigMap", "llm-mine"), ("Secret", "llm-mine")} <= found


# Rolling only for a reason


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {}, "alerts": {"enabled": True}, "dashboard": {"enabled": True}},
        {"service": {"type": "NodePort"}, "networkPolicy": {"enabled": False}},
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
    assert [each["metadata"]["name"] for each in documents if each["kind"] == "ConfigMap"] == ["llm-allow"]
    spec = chart.pod(documents)
    assert {"name": "endpoints", "configMap": {"name": "llm-endpoints"}} in spec["volumes"]
    for name in ("server", "weights"):
        each = chart.container(spec, name)
        assert any("/etc/tritonllm/revision-$(TRITONLLM_REVISION).yaml" in part for part in each["args"])
        (revision,) = [one for one in each["env"] if one["name"] == "TRITONLLM_REVISION"]
        assert "tritonllm.io/revision" in revision["valueFrom"]["fieldRef"]["fieldPath"]


def test_a_pool_without_the_operator_grants_nothing() -> None:
    assert not {"Role", "RoleBinding"} & {kind for kind, _ in names({})}


def test_the_operator_finds_what_it_must_know_in_the_annotations() -> None:
    documents = chart.render(
        {
            "operator": {"enabled": True},
            "apiSecret": {"existingSecret": "mine", "key": "word"},
            "drain": {"seconds": 450},
            "gpu": {"count": 4},
            "sharedMemory": "8Gi",
            "resources": {"limits": {"memory": "64Gi"}},
            "endpoints": [],
        }
    )
    annotations = chart.one(documents, "Deployment")["metadata"]["annotations"]
    assert annotations == {
        "tritonllm.io/runtime": "vllm-0.24.0",
        "tritonllm.io/allow": '{"engineArgs":[],"pickle":false,"remoteCode":false,"repos":["org/*"]}',
        "tritonllm.io/operator": "true",
        "tritonllm.io/api-secret": "mine",
        "tritonllm.io/api-secret-key": "word",
        "tritonllm.io/drain-seconds": "450",
        "tritonllm.io/gpus": "4",
        "tritonllm.io/weights": "Own",
    }
    role = chart.one(documents, "Role")
    assert role["rules"][0]["resourceNames"] == [annotations["tritonllm.io/api-secret"]]


def test_the_operator_is_told_which_endpoints_come_with_the_pool() -> None:
    documents = chart.render(OPERATED | TWO)
    brought = [each["metadata"]["name"] for each in documents if each["kind"] == "LLMEndpoint"]
    told = chart.one(documents, "Deployment")["metadata"]["annotations"]["tritonllm.io/brings"]
    assert told.split(" ") == brought == ["chat", "code"]


def test_a_pool_without_the_operator_says_so() -> None:
    annotations = deployment({})["metadata"]["annotations"]
    assert annotations["tritonllm.io/operator"] == "false"
    assert "tritonllm.io/brings" not in annotations
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
    for name, each in zip(("chat", "code"), asking, strict=True):
        compile(each["args"][0], "test", "exec")
        assert f"http://llm:8000/v2/models/{name}/generate" in each["args"][0]


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


def test_the_pod_of_helm_test_goes_where_the_image_is_unless_it_has_one_of_its_own() -> None:
    placed = {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"operator": "Exists"}]}
    own = {"test": {"image": "registry.example.com/python:3.12-alpine"}}

    def asking(values: dict[str, Any]) -> chart.Document:
        return chart.one(chart.render(values), "Pod")["spec"]

    assert placed.items() <= asking(placed).items()
    small = asking(placed | own)
    assert not placed.keys() & small.keys()
    assert small["containers"][0]["image"] == "registry.example.com/python:3.12-alpine"
    assert asking(placed | {"test": {"nodeSelector": {"a": "b"}}})["nodeSelector"] == {"a": "b"}
    assert small["containers"][0]["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"memory": "256Mi"},
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


@pytest.mark.parametrize("readonly", [{"accessMode": "ReadOnlyMany"}, {"readOnly": True}])
def test_a_volume_that_is_read_only_is_attached_read_only(readonly: dict[str, Any]) -> None:
    values = {
        "weights": {"type": "ExistingClaim", "existingClaim": "models", "sync": {"enabled": False}} | readonly
    }
    claim = {"claimName": "models", "readOnly": True}
    assert {"name": "weights", "persistentVolumeClaim": claim} in chart.pod(chart.render(values))["volumes"]


def test_weights_may_be_a_directory_of_a_claim() -> None:
    spec = chart.pod(chart.render({"weights": {"subPath": "teams/search"}}))
    for name in ("weights", "server"):
        (mount,) = [each for each in chart.container(spec, name)["volumeMounts"] if each["name"] == "weights"]
        assert (mount["mountPath"], mount["subPath"]) == ("/weights", "teams/search")


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


@pytest.mark.parametrize("operated", [False, True])
def test_weights_that_no_endpoint_needs_are_removed_on_a_schedule(operated: bool) -> None:
    values = {
        "weights": {"gc": {"enabled": True, "schedule": "0 4 * * *", "graceDays": 30}, "subPath": "mine"},
        "operator": {"enabled": operated},
    }
    documents = chart.render(values)
    job = chart.one(documents, "CronJob")["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("0 4 * * *", "Forbid")
    spec = job["jobTemplate"]["spec"]["template"]["spec"]
    (each,) = spec["containers"]
    assert each["command"] == ["tritonllm", "weights", "gc"]
    assert each["args"] == ["--cache=/weights", "--keep=/etc/tritonllm", "--grace=30"]
    mounts = {mount["name"]: mount for mount in each["volumeMounts"]}
    assert mounts["weights"] == {"name": "weights", "mountPath": "/weights", "subPath": "mine"}
    # The same endpoints as the pods', all revisions of them.
    volumes = {volume["name"]: volume for volume in chart.pod(documents)["volumes"]}
    assert {volume["name"]: volume for volume in spec["volumes"]}.items() <= volumes.items()
    # Where one node only can mount the volume, it is the server's.
    (term,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = chart.one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    shared = chart.merged(values, {"weights": {"accessMode": "ReadWriteMany"}})
    spec = chart.one(chart.render(shared), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert "affinity" not in spec


def test_a_cache_of_compiled_kernels_can_outlive_the_pod() -> None:
    def cache(values: dict[str, Any]) -> chart.Document:
        (volume,) = [each for each in template(values)["spec"]["volumes"] if each["name"] == "cache"]
        return volume

    assert cache({}) == {"name": "cache", "emptyDir": {}}
    claim = {"cache": {"type": "Claim", "size": "5Gi"}}
    assert cache(claim)["persistentVolumeClaim"] == {"claimName": "llm-cache"}
    made = chart.one(chart.render(claim), "PersistentVolumeClaim", "llm-cache")
    assert made["spec"]["resources"]["requests"]["storage"] == "5Gi"
    existing = {"cache": {"type": "ExistingClaim", "existingClaim": "mine"}}
    assert cache(existing)["persistentVolumeClaim"] == {"claimName": "mine"}
    assert ("PersistentVolumeClaim", "mine") not in names(existing)


def test_everything_that_is_compiled_goes_into_the_cache() -> None:
    each = server({})
    (place,) = [mount["mountPath"] for mount in each["volumeMounts"] if mount["name"] == "cache"]
    variables = {one["name"]: one.get("value", "") for one in each["env"]}
    assert variables["XDG_CACHE_HOME"] == place
    assert all(variables[name].startswith(place) for name in ("TRITON_CACHE_DIR", "CUDA_CACHE_PATH"))


def test_the_server_listens_on_both_families_and_knows_which_is_the_pods_first() -> None:
    each = server({})
    assert "--host=::" in each["args"]
    (pod_ip,) = [one for one in each["env"] if one["name"] == "POD_IP"]
    assert pod_ip["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}


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
def test_the_grace_period_has_room_for_sleep_drain_and_the_end_of_serve(drain: int, sleep: int) -> None:
    spec = chart.pod(chart.render({"drain": {"seconds": drain, "preStopSeconds": sleep}}))
    assert spec["terminationGracePeriodSeconds"] == drain + sleep + serve.STOP_SECONDS
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


def test_every_service_can_have_both_families_of_addresses() -> None:
    families = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    documents = chart.render(
        {"service": families | {"triton": True}, "metrics": {"scrape": "ServiceMonitor"}}
    )
    services = [each["spec"] for each in documents if each["kind"] == "Service"]
    assert len(services) == 3
    assert all(families.items() <= each.items() for each in services)
    assert "ipFamilyPolicy" not in chart.one(chart.render({}), "Service")["spec"]


# Odds and ends


def test_what_is_optional_is_off() -> None:
    assert {kind for kind, _ in names({})} == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
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


def test_a_pool_can_have_another_name_than_its_release() -> None:
    documents = chart.render({"fullnameOverride": "models"} | OPERATED)
    for kind in ("Deployment", "Service", "ServiceAccount"):
        assert chart.one(documents, kind)["metadata"]["name"] == "models"
    assert chart.one(documents, "LLMEndpoint")["spec"]["pool"] == "models"
    template = chart.one(documents, "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"]["tritonllm.io/pool"] == "models"
    assert {"name": "endpoints", "configMap": {"name": "models-endpoints"}} in template["spec"]["volumes"]
    with pytest.raises(chart.Refused, match="/fullnameOverride"):
        chart.render({"fullnameOverride": "with.dots"})


def test_every_document_says_which_pool_it_belongs_to() -> None:
    for document in chart.render(chart.HERE / "values" / "everything-on.yaml"):
        assert document["metadata"]["labels"]["tritonllm.io/pool"] == "llm"
        assert document["metadata"]["labels"]["team"] == "search"
