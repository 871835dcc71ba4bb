"""The rights that the charts grant are enough, everywhere or in some namespaces only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

import chart
import pool
from api_server import ApiServer
from pool import Pool, endpoint, until

HOME, ACCOUNT = "operators", "tritonllm-operator"
# Each runs containers.
WORKLOADS = (
    "pods",
    "replicationcontrollers",
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "jobs.batch",
    "cronjobs.batch",
)
WRITES = ("create", "update", "patch", "delete", "deletecollection")
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_PLACES = {
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "ClusterRole": (_RBAC, "clusterroles"),
    "ClusterRoleBinding": (_RBAC, "clusterrolebindings"),
    "Role": (_RBAC, "roles"),
    "RoleBinding": (_RBAC, "rolebindings"),
}


@pytest.fixture
def install(client: httpx.Client) -> Iterator[list[str]]:
    """Takes back what a chart granted."""
    made: list[str] = []
    client.post("/api/v1/namespaces", json={"metadata": {"name": HOME}})
    yield made
    for place in made:
        client.delete(place).raise_for_status()


def grant(client: httpx.Client, made: list[str], documents: list[pool.Json], namespace: str) -> None:
    """Installs what of a chart is about rights."""
    for document in documents:
        kind = document["kind"]
        if kind not in _PLACES:
            continue
        group, plural = _PLACES[kind]
        where = document["metadata"].get("namespace", namespace)
        scope = "" if kind.startswith("Cluster") else f"/namespaces/{where}"
        answer = client.post(f"{group}{scope}/{plural}", json=document)
        assert answer.is_success, answer.text
        made.append(f"{group}{scope}/{plural}/{document['metadata']['name']}")


def granted(
    api_server: ApiServer, client: httpx.Client, made: list[str], llm: Pool, watched: list[str]
) -> Path:
    """What both charts grant, and the kubeconfig of the operator that has these rights and no others."""
    grant(client, made, chart.operator({"watchNamespaces": watched}), HOME)
    grant(client, made, of_pool(llm), llm.name)
    return api_server.kubeconfig_of(HOME, ACCOUNT)


def of_pool(llm: Pool) -> list[pool.Json]:
    """What a pool's chart grants; what its pods may do is not the operator's."""
    values = {"operator": {"enabled": True, "namespace": HOME}, "weights": {"accessMode": "ReadWriteMany"}}
    rendered = chart.render(values, f"--namespace={llm.name}")
    return [item for item in rendered if item["kind"] in ("Role", "RoleBinding")]


def allowed(client: httpx.Client, verb: str, resource: str, namespace: str, name: str = "") -> bool:
    """Whether the operator may do this, as the API server's authorizer says."""
    kind, _, group = resource.partition(".")
    asked = {"verb": verb, "resource": kind, "group": group, "namespace": namespace, "name": name}
    body = {"spec": {"user": f"system:serviceaccount:{HOME}:{ACCOUNT}", "resourceAttributes": asked}}
    answer = client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=body)
    return answer.raise_for_status().json()["status"]["allowed"]


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "in one namespace"])
def test_the_rights_of_the_charts_are_enough(
    api_server: ApiServer,
    client: httpx.Client,
    llm: Pool,
    install: list[str],
    tmp_path: Path,
    everywhere: bool,
) -> None:
    watched = [] if everywhere else [llm.name]
    kubeconfig = granted(api_server, client, install, llm, watched)
    lease = {"TRITONLLM_LEASE": f"{HOME}/tritonllm-operator"}
    with pool.operating(kubeconfig, tmp_path, *watched, settings=lease) as operator:
        llm.install(weights="Shared")
        llm.run()
        llm.create("llmendpoints", endpoint())
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        llm.ban("chat", "other")
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        assert until(lambda: pool.counted(llm.events())["Normal", "InPlace"]) == 1
        # A new pod template, and the Job before it.
        llm.edit("chat", model={"repo": "org/name"}, engine={"type": "vllm", "args": None})
        until(lambda: llm.list("jobs"), lambda: (llm.status(), operator.story()))
        llm.edit("chat", model=None, engine={"type": "simulated", "args": {"seed": 1}})
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        assert llm.revision()
        until(lambda: not llm.list("jobs"), operator.story)
        llm.delete("llmendpoints", "chat")
        until(
            lambda: all(("unload", "chat-engine") in item.done for item in llm.tritons.values()),
            operator.story,
        )
    text = operator.log.read_text()
    assert "forbidden" not in text.lower()
    assert "insufficient" not in text.lower()


def test_a_namespace_that_it_may_not_look_into_does_not_keep_the_others_waiting(
    api_server: ApiServer, client: httpx.Client, llm: Pool, install: list[str], tmp_path: Path
) -> None:
    # As after `kubectl delete namespace`: with it, its Role went.
    kubeconfig = granted(api_server, client, install, llm, [llm.name])
    with pool.operating(kubeconfig, tmp_path, llm.name, "closed") as operator:
        llm.install()
        llm.run()
        llm.create("llmendpoints", endpoint())
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        llm.ban("chat", "other")
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
    assert "closed" in operator.log.read_text()


def test_outside_a_pools_namespace_it_cannot_change_a_workload_or_read_a_secret(
    api_server: ApiServer, client: httpx.Client, llm: Pool, install: list[str]
) -> None:
    granted(api_server, client, install, llm, [])
    for namespace in ("kube-system", "default", HOME, ""):
        found = {
            (verb, resource)
            for resource in (
                *WORKLOADS,
                "configmaps",
                "serviceaccounts",
                "rolebindings.rbac.authorization.k8s.io",
            )
            for verb in WRITES
            if allowed(client, verb, resource, namespace)
        }
        assert found == set()
        assert not any(allowed(client, verb, "secrets", namespace) for verb in ("get", "list", "watch"))
    # The question itself works.
    assert allowed(client, "list", "pods", "kube-system")


def test_in_a_pools_namespace_names_limit_it_where_kubernetes_can(
    api_server: ApiServer, client: httpx.Client, llm: Pool, install: list[str]
) -> None:
    granted(api_server, client, install, llm, [])

    def writes(resource: str, name: str) -> set[str]:
        return {verb for verb in WRITES if allowed(client, verb, resource, llm.name, name)}

    assert writes("deployments.apps", "llm") == {"patch"}
    assert writes("deployments.apps", "another") == set()
    assert writes("configmaps", "llm-endpoints") == {"create", "patch"}
    assert writes("configmaps", "another") == set()
    # A POST does not name what it creates.
    assert not allowed(client, "create", "configmaps", llm.name)
    # Kubernetes can't: a Job's name is not known before.
    assert writes("jobs.batch", "another") == {"create", "delete"}
    assert allowed(client, "get", "secrets", llm.name, "llm-api")
    assert not allowed(client, "get", "secrets", llm.name, "another")
    assert not allowed(client, "list", "secrets", llm.name)


def test_a_pool_that_grants_nothing_has_one_sentence_in_the_condition_and_is_looked_after_once_it_does(
    api_server: ApiServer, client: httpx.Client, llm: Pool, install: list[str], tmp_path: Path
) -> None:
    grant(client, install, chart.operator({}), HOME)
    with pool.operating(api_server.kubeconfig_of(HOME, ACCOUNT), tmp_path) as operator:
        llm.install()
        llm.run()
        llm.create("llmendpoints", endpoint())
        until(lambda: llm.condition("Loaded")[1] == "MissingRights", lambda: (llm.status(), operator.story()))
        _, _, message = llm.condition("Loaded")
        assert message.startswith(f"the operator (system:serviceaccount:{HOME}:{ACCOUNT}) cannot ")
        assert f"helm upgrade llm charts/tritonllm-pool -n {llm.name}" in message
        grant(client, install, of_pool(llm), llm.name)
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))


def of_plugin(kubeconfig: Path, token: Path) -> tuple[str, dict[str, str]]:
    """Turns a kubeconfig into one whose plugin is asked for the token."""
    whole = yaml.safe_load(kubeconfig.read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [str(token)]}
    whole["users"][0]["user"] = {"exec": plugin}
    kubeconfig.write_text(yaml.safe_dump(whole))
    return "", {}


def of_pod(kubeconfig: Path, token: Path) -> tuple[str, dict[str, str]]:
    """What a pod has instead of a kubeconfig."""
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    host, port = cluster["server"].removeprefix("https://").split(":")
    code = f"""
from kubernetes.aio.config import incluster_config
incluster_config.SERVICE_TOKEN_FILENAME = {str(token)!r}
incluster_config.SERVICE_CERT_FILENAME = {cluster["certificate-authority"]!r}
"""
    place = {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBECONFIG": f"{kubeconfig}.none",
    }
    return code, place


@pytest.mark.parametrize("login", [of_plugin, of_pod])
def test_requests_and_watches_go_on_with_the_new_token_when_the_old_one_is_no_longer_accepted(
    api_server: ApiServer,
    client: httpx.Client,
    llm: Pool,
    install: list[str],
    tmp_path: Path,
    login: Callable[[Path, Path], tuple[str, dict[str, str]]],
) -> None:
    kubeconfig = granted(api_server, client, install, llm, [])
    token = tmp_path / "token"

    def issue(name: str) -> None:
        """A token that is accepted as long as the Secret of this name is there."""
        secrets = f"/api/v1/namespaces/{HOME}/secrets"
        secret = client.post(secrets, json={"metadata": {"name": name}}).raise_for_status().json()
        install.append(f"{secrets}/{name}")
        bound = {"apiVersion": "v1", "kind": "Secret", "name": name, "uid": secret["metadata"]["uid"]}
        answer = client.post(
            f"/api/v1/namespaces/{HOME}/serviceaccounts/{ACCOUNT}/token",
            json={"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}},
        )
        text = answer.raise_for_status().json()["status"]["token"]
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": text},
        }
        token.write_text(json.dumps(plugin) if login is of_plugin else text)

    issue("first")
    code, settings = login(kubeconfig, token)
    with pool.operating(kubeconfig, tmp_path, resync=600, code=code, settings=settings) as operator:
        llm.install()
        llm.run()
        llm.create("llmendpoints", endpoint())
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        issue("second")
        client.delete(install.pop(-2)).raise_for_status()
        # Watches that are there stay: the API server asks for a token at their beginning only.
        api_server.restart()
        llm.ban("chat", "other")
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        assert "Re-authentication" in operator.story()
