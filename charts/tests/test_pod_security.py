"""Every pod passes Kubernetes' `restricted` standard, and secrets are where they are needed only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import chart

# https://kubernetes.io/docs/concepts/security/pod-security-standards, `restricted`, which includes `baseline`.
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pods(values: chart.Path) -> list[chart.Document]:
    documents = chart.render(values)
    jobs = [each["spec"]["jobTemplate"]["spec"] for each in documents if each["kind"] == "CronJob"]
    return (
        [chart.pod(documents)]
        + [each["spec"] for each in documents if each["kind"] == "Pod"]
        + [each["template"]["spec"] for each in jobs]
    )


def containers(spec: chart.Document) -> list[chart.Document]:
    return spec.get("initContainers", []) + spec["containers"]


def violations(spec: chart.Document) -> Iterator[str]:
    """What the restricted standard would refuse."""
    of_pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    for volume in spec.get("volumes", []):
        if set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']}"
    for each in containers(spec):
        own = each.get("securityContext", {})
        both = of_pod | own
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{each['name']} may escalate privileges"
        if own.get("privileged"):
            yield f"{each['name']} is privileged"
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            yield f"{each['name']} keeps capabilities"
        if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{each['name']} adds capabilities"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield f"{each['name']} may run as root"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{each['name']} has no seccomp profile"
        if any("hostPort" in port for port in each.get("ports", [])):
            yield f"{each['name']} has a host port"


@pytest.mark.parametrize("values", chart.VALUES, ids=lambda path: path.stem)
def test_every_pod_is_restricted(values: chart.Path) -> None:
    for spec in pods(values):
        assert list(violations(spec)) == []


def test_a_pod_that_is_not_restricted_would_be_found() -> None:
    (spec, _) = pods(chart.HERE / "values" / "minimal-gpu.yaml")
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    spec["securityContext"] = {}
    spec["containers"][0]["securityContext"] = {}
    assert len(list(violations(spec))) == 7


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_no_pod_of_a_pool_gets_a_token_of_kubernetes(values: chart.Path) -> None:
    assert all(spec["automountServiceAccountToken"] is False for spec in pods(values))
    for document in chart.render(values):
        if document["kind"] == "ServiceAccount":
            assert document["automountServiceAccountToken"] is False


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_only_the_init_container_sees_the_token_of_the_hub(values: chart.Path) -> None:
    (spec, *others) = pods(values)
    secret = {volume["name"] for volume in spec["volumes"] if volume["name"] == "hub-token"}
    seeing = [
        each["name"]
        for each in containers(spec)
        if secret & {mount["name"] for mount in each.get("volumeMounts", [])}
    ]
    assert seeing == (["weights"] if secret else [])
    assert not any("token" in volume["name"] for other in others for volume in other.get("volumes", []))


def test_the_token_is_a_file_of_the_init_container_and_in_no_environment() -> None:
    spec = chart.pod(chart.render(chart.HERE / "values" / "minimal-gpu.yaml"))
    weights = chart.container(spec, "weights")
    assert "--token-file=/var/run/secrets/hub/token" in weights["args"]
    assert {"name": "hub-token", "mountPath": "/var/run/secrets/hub", "readOnly": True} in weights[
        "volumeMounts"
    ]
    for each in containers(spec):
        assert not any("secretKeyRef" in str(variable) for variable in each["env"])


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_only_the_server_is_cut_off_from_the_hub_and_only_the_init_container_may_write_weights(
    values: chart.Path,
) -> None:
    spec = chart.pod(chart.render(values))
    for each in containers(spec):
        offline = {"name": "HF_HUB_OFFLINE", "value": "1"} in each.get("env", [])
        assert offline == (each["name"] == "server")
        for mount in each.get("volumeMounts", []):
            if mount["name"] == "weights":
                assert bool(mount.get("readOnly")) == (each["name"] == "server")


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_no_init_container_takes_a_gpu(values: chart.Path) -> None:
    for each in chart.pod(chart.render(values)).get("initContainers", []):
        assert set(each["resources"]["limits"]) <= {"cpu", "memory"}


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_no_container_without_a_gpu_sees_those_of_its_node(values: chart.Path) -> None:
    for spec in pods(values):
        for each in containers(spec):
            if each["name"] not in ("server", "proxy"):
                assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in each["env"], each["name"]


def read_only(values: dict[str, Any]) -> dict[str, bool]:
    documents = chart.render(values)
    found = containers(chart.pod(documents)) + chart.one(documents, "Pod")["spec"]["containers"]
    return {each["name"]: each["securityContext"]["readOnlyRootFilesystem"] for each in found}


def test_only_a_container_with_gpus_has_a_root_file_system_that_can_be_written() -> None:
    assert read_only({}) == {"weights": True, "server": False, "chat": True}
    assert set(read_only({"gpu": {"count": 0}}).values()) == {True}
    for chosen in (True, False):
        values = {"securityContext": {"readOnlyRootFilesystem": chosen}}
        assert set(read_only(values).values()) == {chosen}


@pytest.mark.parametrize("removed", [None, {"runAsUser": None, "runAsGroup": None, "fsGroup": None}])
def test_openshift_can_choose_the_users(removed: dict[str, None] | None) -> None:
    """Its SCC restricted-v2 admits no user or group of ours, and everything else that is left here."""
    values = {"podSecurityContext": removed}
    pool = chart.render(values)
    for spec in (chart.pod(pool), chart.one(pool, "Pod")["spec"], chart.pod(chart.operator(values))):
        left = {key: value for key, value in spec.get("securityContext", {}).items() if value is not None}
        assert not {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"} & set(left)
        if removed:
            assert left["runAsNonRoot"] is True
            assert left["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in containers(spec):
            assert not {"runAsUser", "runAsGroup"} & set(each["securityContext"])
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("values", chart.VALUES, ids=lambda path: path.stem)
def test_every_directory_that_must_be_written_is_a_volume(values: chart.Path) -> None:
    for spec in pods(values):
        for each in spec.get("initContainers", []) + spec["containers"][:1]:
            environment = {variable["name"]: variable.get("value", "") for variable in each["env"]}
            mounts = [mount["mountPath"] for mount in each["volumeMounts"] if not mount.get("readOnly")]
            for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
                place = environment.get(name, "/tmp")
                assert any(place == mount or place.startswith(f"{mount}/") for mount in mounts), name
