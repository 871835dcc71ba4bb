"""Only the operator writes what pods boot from, and only Kubernetes' controllers make what has a pool's labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import chart
from pool import until
from tritonllm_operator import names

NAMESPACE = "default"
CORE, APPS, BATCH = "/api/v1", "/apis/apps/v1", "/apis/batch/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
OPERATOR = "system:serviceaccount:operators:tritonllm-operator"
CONTROLLERS = "system:serviceaccount:kube-system:"
EDITOR = "somebody with edit"
# What `edit` consists of; no controller runs here that would put it together.
EDIT = "system:aggregate-to-edit"
MINE = {names.MANAGED_BY: names.FIELD_MANAGER, names.POOL: "llm"}
SERVER = {names.POOL: "llm", names.COMPONENT: "server"}
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "llm-1", "uid": "forged", "controller": True}
SPEC = {"containers": [{"name": "server", "image": "x"}]}
MERGE = "application/merge-patch+json"
Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def rights(guarded: httpx.Client) -> None:
    """The operator has what both charts grant, and somebody has the built-in role `edit`."""
    documents = chart.operator({})
    pool = chart.render({"operator": {"enabled": True, "namespace": "operators"}}, f"--namespace={NAMESPACE}")
    for document in (*documents, *pool):
        plural = f"{document['kind'].lower()}s"
        if document["apiVersion"].startswith("rbac"):
            scope = "" if plural.startswith("cluster") else f"/namespaces/{NAMESPACE}"
            guarded.post(f"{RBAC}{scope}/{plural}", json=document).raise_for_status()
    binding = {
        "metadata": {"name": "editor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": EDIT},
        "subjects": [{"kind": "User", "name": EDITOR, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    guarded.post(f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", json=binding).raise_for_status()
    until(
        lambda: send(guarded, EDITOR, "POST", f"{CORE}/configmaps", config_map(), dry=True).status_code == 422
    )
    until(lambda: send(guarded, EDITOR, "POST", f"{CORE}/pods", pod(), dry=True).status_code == 422)


def config_map(name: str = "llm-endpoints", **more: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": MINE}, **more}


def pod(name: str = "rogue", labels: dict[str, str] | None = None, **metadata: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": SERVER if labels is None else labels, **metadata},
        "spec": SPEC,
    }


def replica_set(**labels: str) -> Json:
    found = SERVER | labels
    spec = {"selector": {"matchLabels": found}, "template": {"metadata": {"labels": found}, "spec": SPEC}}
    return {"metadata": {"name": "rogue", "labels": found}, "spec": spec}


def job(**labels: str) -> Json:
    spec = {"template": {"spec": SPEC | {"restartPolicy": "Never"}}}
    return {"metadata": {"name": "rogue", "labels": MINE | labels}, "spec": spec}


def send(
    client: httpx.Client, user: str, method: str, place: str, body: Json, *, kind: str = "", dry: bool = False
) -> httpx.Response:
    """A request of a user in the namespace; `place` is `GROUP/plural[/name]`."""
    group, plural, *name = place.rsplit("/", 2 if method == "PATCH" else 1)
    headers = {"Impersonate-User": user} | ({"Content-Type": kind} if kind else {})
    query = {"dryRun": "All"} if dry else {}
    if kind.startswith("application/apply"):
        query |= {"fieldManager": "test", "force": "true"}
    path = "/".join((group, "namespaces", NAMESPACE, plural, *name))
    return client.request(method, path, json=body, headers=headers, params=query)


@pytest.fixture
def written(guarded: httpx.Client) -> Iterator[None]:
    """The operator has written the file, by a server-side apply that made it."""
    body = config_map(data={"revision-.yaml": "{}"})
    kind = "application/apply-patch+yaml"
    answer = send(guarded, OPERATOR, "PATCH", f"{CORE}/configmaps/llm-endpoints", body, kind=kind)
    assert answer.is_success, answer.text
    yield
    guarded.delete(f"{CORE}/namespaces/{NAMESPACE}/configmaps/llm-endpoints")


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    "change",
    [
        {"data": {"revision-.yaml": "other"}},
        {"data": {"another": "key"}},
        {"binaryData": {"revision-2.yaml": "e30="}},
        {"metadata": {"labels": {names.MANAGED_BY: None}}},
        {"data": None, "metadata": {"labels": None}},
    ],
)
def test_nobody_but_the_operator_changes_what_pods_boot_from(guarded: httpx.Client, change: Json) -> None:
    place = f"{CORE}/configmaps/llm-endpoints"
    refused = send(guarded, EDITOR, "PATCH", place, change, kind=MERGE)
    assert refused.status_code == 422, refused.text
    assert "only the operator writes llm-endpoints" in refused.json()["message"]
    assert send(guarded, OPERATOR, "PATCH", place, change, kind=MERGE).is_success


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (config_map(), True),
        (config_map(metadata={"name": "llm-endpoints"}, data={"revision-.yaml": "{}"}), True),
        (config_map(metadata={"name": "llm-endpoints"}, binaryData={"revision-.yaml": "e30="}), True),
        (config_map(metadata={"name": "my-endpoints"}, data={"hosts": "a"}), False),
        (config_map(metadata={"name": "other"}, data={"revision-.yaml": "{}"}), False),
    ],
)
def test_nobody_but_the_operator_makes_it_and_other_config_maps_are_free(
    guarded: httpx.Client, body: Json, refused: bool
) -> None:
    answer = send(guarded, EDITOR, "POST", f"{CORE}/configmaps", body, dry=True)
    assert answer.status_code == (422 if refused else 201), answer.text


@pytest.mark.usefixtures("written")
def test_it_can_be_deleted_and_orphaned(guarded: httpx.Client) -> None:
    collector = f"{CONTROLLERS}generic-garbage-collector"
    change = {"metadata": {"ownerReferences": []}}
    place = f"{CORE}/configmaps/llm-endpoints"
    assert send(guarded, collector, "PATCH", place, change, kind=MERGE).is_success
    headers = {"Impersonate-User": EDITOR}
    path = f"{CORE}/namespaces/{NAMESPACE}/configmaps/llm-endpoints"
    assert guarded.delete(path, headers=headers, params={"dryRun": "All"}).is_success


@pytest.mark.parametrize("owners", [[], [OWNER]])
@pytest.mark.parametrize("component", ["server", "weights", "benchmark"])
def test_only_controllers_make_pods_with_a_pools_labels(
    guarded: httpx.Client, owners: list[Json], component: str
) -> None:
    body = pod(labels=SERVER | {names.COMPONENT: component}, ownerReferences=owners)
    refused = send(guarded, EDITOR, "POST", f"{CORE}/pods", body, dry=True)
    assert refused.status_code == 422, refused.text
    assert "the pods of pool llm are made by its Deployment" in refused.json()["message"]
    for controller in ("replicaset-controller", "job-controller"):
        assert send(guarded, f"{CONTROLLERS}{controller}", "POST", f"{CORE}/pods", body, dry=True).is_success


@pytest.mark.parametrize("labels", [{}, {"app": "mine"}, {names.POOL: "llm", names.COMPONENT: "test"}])
def test_other_pods_are_free(guarded: httpx.Client, labels: dict[str, str]) -> None:
    assert send(guarded, EDITOR, "POST", f"{CORE}/pods", pod(labels=labels), dry=True).is_success


def test_a_pod_cannot_be_given_or_lose_a_pools_labels_but_be_annotated(guarded: httpx.Client) -> None:
    for name, labels in (("theirs", {}), ("ours", SERVER)):
        guarded.post(f"{CORE}/namespaces/{NAMESPACE}/pods", json=pod(name, labels)).raise_for_status()

    def change(name: str, **metadata: Any) -> int:
        place = f"{CORE}/pods/{name}"
        return send(guarded, EDITOR, "PATCH", place, {"metadata": metadata}, kind=MERGE, dry=True).status_code

    assert change("theirs", labels=SERVER) == 422
    assert change("ours", ownerReferences=[OWNER]) == 422
    assert change("ours", labels={names.POOL: "other"}) == 422
    assert change("ours", labels={"mine": "x"}, annotations={"a": "b"}) == 200
    assert change("theirs", labels={"mine": "x"}) == 200


def test_only_the_deployments_controller_makes_a_pools_replica_sets(guarded: httpx.Client) -> None:
    place = f"{APPS}/replicasets"
    refused = send(guarded, EDITOR, "POST", place, replica_set(), dry=True)
    assert refused.status_code == 422, refused.text
    assert "are made by its Deployment" in refused.json()["message"]
    assert send(
        guarded, f"{CONTROLLERS}deployment-controller", "POST", place, replica_set(), dry=True
    ).is_success
    other = replica_set(**{names.COMPONENT: "mine"})
    assert send(guarded, EDITOR, "POST", place, other, dry=True).is_success


def test_only_the_operator_makes_jobs_that_it_believes(guarded: httpx.Client) -> None:
    place = f"{BATCH}/jobs"
    refused = send(guarded, EDITOR, "POST", place, job(), dry=True)
    assert refused.status_code == 422, refused.text
    assert "are made by the operator" in refused.json()["message"]
    assert send(guarded, EDITOR, "POST", place, job(**{names.MANAGED_BY: "me"}), dry=True).is_success


def test_what_the_charts_policies_do_not_concern_is_not_asked(guarded: httpx.Client) -> None:
    answer = send(guarded, EDITOR, "POST", f"{APPS}/deployments", replica_set(), dry=True)
    assert answer.is_success, answer.text
