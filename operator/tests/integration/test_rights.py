"""The rights that the charts grant are enough, everywhere or in some namespaces only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import chart
import pool
from api_server import ApiServer
from pool import Pool, endpoint, until

HOME = "operators"
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
    rendered = chart.render({"operator": {"enabled": True, "namespace": HOME}}, f"--namespace={llm.name}")
    # What the pool's pods may do is not the operator's.
    grant(client, made, [item for item in rendered if item["kind"] in ("Role", "RoleBinding")], llm.name)
    return api_server.kubeconfig_of(HOME, "tritonllm-operator")


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
    with pool.operating(kubeconfig, tmp_path, *watched) as operator:
        llm.install(weights="Shared")
        llm.run()
        llm.create("llmendpoints", endpoint())
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        llm.ban("chat", "other")
        until(llm.as_wanted, lambda: (llm.status(), operator.story()))
        assert pool.counted(llm.events())["Normal", "InPlace"] == 1
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
