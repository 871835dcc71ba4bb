"""What the operator's values do to its documents, one promise a test."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

import chart

OWN_ROLE = "operators-tritonllm-operator"
LEADER = "tritonllm-operator-leader"
TWO = {"watchNamespaces": ["search", "support"]}
RIGHTS = {
    ("tritonllm.io", "llmendpoints"): {"get", "list", "watch"},
    ("tritonllm.io", "llmendpoints/status"): {"patch"},
    ("", "configmaps"): {"get", "list", "watch"},
    ("", "pods"): {"get", "list", "watch"},
    ("", "events"): {"create"},
    ("apps", "deployments"): {"get", "list", "watch"},
    ("apps", "replicasets"): {"get", "list", "watch"},
    ("batch", "jobs"): {"get", "list", "watch"},
}
READS = {"get", "list", "watch"}
# What only an operator of the whole cluster can look at.
OF_THE_CLUSTER = {
    ("", "namespaces"): {"list", "watch"},
    ("apiextensions.k8s.io", "customresourcedefinitions"): {"get", "list", "watch"},
}


def rights(role: chart.Document) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def kinds(values: dict[str, Any]) -> list[str]:
    return [each["kind"] for each in chart.operator(values)]


def names_of(values: dict[str, Any]) -> set[str]:
    return {each["metadata"]["name"] for each in chart.operator(values)}


def deployment(values: dict[str, Any]) -> chart.Document:
    return chart.one(chart.operator(values), "Deployment")["spec"]


# Rights


def test_in_the_whole_cluster_it_may_do_what_it_does_and_no_more() -> None:
    documents = chart.operator({})
    assert rights(chart.one(documents, "ClusterRole", OWN_ROLE)) == RIGHTS | OF_THE_CLUSTER
    assert {each["metadata"]["name"] for each in of_namespaces(documents)} == {LEADER}


def of_namespaces(documents: list[chart.Document]) -> list[chart.Document]:
    return [each for each in documents if each["kind"] in ("Role", "RoleBinding")]


def test_with_namespaces_it_has_rights_in_these_alone() -> None:
    documents = chart.operator(TWO)
    assert "ClusterRoleBinding" not in kinds(TWO)
    assert OWN_ROLE not in {each["metadata"]["name"] for each in documents if each["kind"] == "ClusterRole"}
    granted = [each for each in of_namespaces(documents) if each["metadata"]["name"] != LEADER]
    for kind in ("Role", "RoleBinding"):
        found = [each["metadata"]["namespace"] for each in granted if each["kind"] == kind]
        assert found == ["search", "support"]
    for role in (each for each in granted if each["kind"] == "Role"):
        assert rights(role) == RIGHTS


def test_at_home_it_may_write_its_own_lease_and_nothing_else() -> None:
    role = chart.one(chart.operator({}), "Role", LEADER)
    assert "namespace" not in role["metadata"]
    assert [(rule["resources"], rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["leases"], ["create"], None),
        (["leases"], ["get", "update"], ["tritonllm-operator"]),
    ]


@pytest.mark.parametrize("values", [{}, TWO])
def test_its_own_chart_lets_it_write_nothing_but_status_events_and_its_lease_and_read_no_secret(
    values: dict[str, Any],
) -> None:
    documents = chart.operator(values)
    bound = {each["roleRef"]["name"] for each in documents if "roleRef" in each}
    roles = [each for each in documents if "rules" in each and each["metadata"]["name"] in bound]
    assert roles
    for role in roles:
        for (_, resource), verbs in rights(role).items():
            assert verbs <= READS or resource in ("llmendpoints/status", "events", "leases"), resource
            assert resource not in ("secrets", "*")


def test_no_role_for_users_makes_its_owner_an_operator() -> None:
    # The admission policies take who may write the status of endpoints for one.
    for role in (
        each for each in chart.operator({}) if each["metadata"]["name"].endswith(("-view", "-edit"))
    ):
        assert not {resource for _, resource in rights(role)} - {"llmendpoints"}


@pytest.mark.parametrize("path", chart.OF_POOL, ids=lambda path: path.stem)
def test_a_pool_lets_it_write_in_the_pools_namespace_only(path: chart.Path) -> None:
    documents = chart.render(path)
    granted = [each for each in documents if each["apiVersion"].startswith("rbac.authorization.k8s.io/")]
    # Those without a namespace are in that of the release.
    assert all(each["kind"] in ("Role", "RoleBinding") for each in granted)
    assert all("namespace" not in each["metadata"] for each in granted)
    enabled = chart.load(path.read_text()).get("operator", {}).get("enabled", False)
    assert bool(granted) == enabled


@pytest.mark.parametrize("sharing", ["ReadWriteOnce", "ReadWriteMany"])
def test_a_pools_rights_are_limited_by_name_where_kubernetes_can(sharing: str) -> None:
    operated = {"operator": {"enabled": True}, "weights": {"accessMode": sharing}}
    role = chart.one(chart.render(operated), "Role")
    found = {
        (rule["resources"][0], *rule.get("resourceNames", ["any"])): set(rule["verbs"])
        for rule in role["rules"]
    }
    assert all(len(rule["resources"]) == 1 for rule in role["rules"])
    jobs = {("jobs", "any"): {"create", "delete"}} if sharing == "ReadWriteMany" else {}
    assert found == jobs | {
        ("secrets", "llm-api"): {"get"},
        ("configmaps", "llm-endpoints"): {"create", "patch"},
        ("deployments", "llm"): {"patch"},
    }


@pytest.mark.parametrize("values", [{}, TWO])
def test_every_binding_is_of_the_pods_own_service_account(values: dict[str, Any]) -> None:
    documents = chart.operator(values)
    account = chart.pod(documents)["serviceAccountName"]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "operators"}
    bindings = [each for each in documents if each["kind"].endswith("Binding") and "roleRef" in each]
    assert bindings
    assert all(each["subjects"] == [subject] for each in bindings)
    names = {each["metadata"]["name"] for each in documents if each["kind"].endswith("Role")}
    # Those for users are bound by the cluster's administrators.
    assert {each["roleRef"]["name"] for each in bindings} == {
        name for name in names if not name.endswith(("-view", "-edit"))
    }


def test_pools_bind_their_rights_to_this_service_account() -> None:
    pool = chart.render({"operator": {"enabled": True, "namespace": "operators"}})
    (subject,) = chart.one(pool, "RoleBinding")["subjects"]
    account = chart.one(chart.operator({}, release="another-name"), "ServiceAccount")
    assert subject["name"] == account["metadata"]["name"]


def test_two_operators_of_one_cluster_do_not_share_a_role() -> None:
    values = yaml.safe_dump(chart.SMALL_OPERATOR)
    found = set()
    for namespace in ("one", "two"):
        # helm takes the last of two.
        text = chart.template(values, "operator", (f"--namespace={namespace}",), chart.OPERATOR)
        found |= {each["metadata"]["name"] for each in chart.load_all(text) if each["kind"] == "ClusterRole"}
    assert len(found) == 6


@pytest.mark.parametrize("to", ["View", "Edit"])
@pytest.mark.parametrize("aggregated", [True, False])
def test_users_rights_are_part_of_kubernetes_roles_if_that_is_wanted(to: str, aggregated: bool) -> None:
    documents = chart.operator({"userRoles": {f"aggregateTo{to}": aggregated}})
    role = chart.one(documents, "ClusterRole", f"{OWN_ROLE}-{to.lower()}")
    label = f"rbac.authorization.k8s.io/aggregate-to-{to.lower()}"
    assert role["metadata"]["labels"].get(label) == ("true" if aggregated else None)


def test_whoever_edits_in_a_namespace_may_not_write_endpoints_by_default() -> None:
    documents = chart.operator({})
    reading = {"get", "list", "watch"}
    view = chart.one(documents, "ClusterRole", f"{OWN_ROLE}-view")
    edit = chart.one(documents, "ClusterRole", f"{OWN_ROLE}-edit")
    assert rights(view) == {("tritonllm.io", "llmendpoints"): reading}
    writing = {"create", "update", "patch", "delete", "deletecollection"}
    assert rights(edit) == {("tritonllm.io", "llmendpoints"): reading | writing}
    assert "rbac.authorization.k8s.io/aggregate-to-view" in view["metadata"]["labels"]
    assert not any("aggregate" in label for label in edit["metadata"]["labels"])
    assert not any(name.endswith("-edit") for name in names_of({"userRoles": {"create": False}}))


# The resource


def test_the_resource_stays_when_the_release_goes() -> None:
    resource = chart.one(chart.operator({}), "CustomResourceDefinition")
    assert resource["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_resource_belongs_to_one_release_of_several() -> None:
    without = set(kinds({"crd": {"install": False}}))
    assert set(kinds({})) - without == {
        "CustomResourceDefinition",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }


# The process


def test_another_stands_by_before_one_goes_and_a_lease_says_which_of_them_acts() -> None:
    spec = deployment({"replicas": 2})
    assert (deployment({})["replicas"], spec["replicas"]) == (1, 2)
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = spec["template"]["spec"]["containers"]
    assert {"name": "TRITONLLM_LEASE", "value": "operators/tritonllm-operator"} in container["env"]
    identity = {"fieldRef": {"fieldPath": "metadata.name"}}
    assert {"name": "TRITONLLM_IDENTITY", "valueFrom": identity} in container["env"]


@pytest.mark.parametrize(("values", "namespaces"), [({}, ""), (TWO, "search,support")])
def test_it_is_told_what_to_follow(values: dict[str, Any], namespaces: str) -> None:
    (container,) = chart.pod(chart.operator(values | {"resyncSeconds": 300}))["containers"]
    assert {"name": "TRITONLLM_WATCH_NAMESPACES", "value": namespaces} in container["env"]
    assert {"name": "TRITONLLM_RESYNC_SECONDS", "value": "300"} in container["env"]


def test_only_its_pod_mounts_a_token() -> None:
    documents = chart.operator({})
    assert chart.pod(documents)["automountServiceAccountToken"] is True
    assert chart.one(documents, "ServiceAccount")["automountServiceAccountToken"] is False


def test_its_probes_ask_for_its_health() -> None:
    (container,) = chart.pod(chart.operator({}))["containers"]
    assert {"name": "health", "containerPort": 8080} in container["ports"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}


@pytest.mark.parametrize("scrape", ["Annotations", "PodMonitor", "None"])
def test_prometheus_finds_it_in_one_way_only(scrape: str) -> None:
    documents = chart.operator({"metrics": {"scrape": scrape}})
    template = chart.one(documents, "Deployment")["spec"]["template"]
    annotations = template["metadata"].get("annotations", {})
    assert (annotations.get("prometheus.io/port") == "8081") == (scrape == "Annotations")
    monitors = [each["spec"] for each in documents if each["kind"] == "PodMonitor"]
    assert bool(monitors) == (scrape == "PodMonitor")
    for monitor in monitors:
        assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_a_new_release_of_the_chart_alone_does_not_restart_it() -> None:
    labels = deployment({})["template"]["metadata"]["labels"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


# Mistakes


def test_without_an_image_it_says_where_to_get_one() -> None:
    with pytest.raises(chart.Refused, match=r"image\.repository is empty: build an image"):
        chart.operator({"image": {"repository": ""}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"watchNamespace": "a"}, "'watchNamespace' not allowed"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"watchNamespaces": ["A"]}, "/watchNamespaces/0"),
        ({"resyncSeconds": 0}, "/resyncSeconds"),
        ({"serviceAccount": {"name": ""}}, "/serviceAccount/name"),
    ],
)
def test_a_value_of_the_wrong_name_or_kind_is_refused_with_its_place(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(chart.Refused, match=re.escape(said)):
        chart.operator(values)
