"""What a pool's values permit reaches the operator and the pods, and nothing is permitted by default."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import chart
from tritonllm import allow

OPERATED = {"operator": {"enabled": True}}
SIMULATED = {"endpoints": [{"name": "chat", "spec": {"engine": {"type": "simulated"}, "guardrails": {}}}]}


def annotation(documents: list[chart.Document]) -> str:
    return chart.one(documents, "Deployment")["metadata"]["annotations"]["tritonllm.io/allow"]


def test_by_default_a_pool_permits_nothing() -> None:
    documents = chart.render(OPERATED | SIMULATED | {"allow": {"repos": []}})
    assert allow.parse(annotation(documents)) == allow.Allow()
    values = chart.load((chart.CHART / "values.yaml").read_text())
    assert values["allow"] == {
        "remoteCode": False,
        "pickle": False,
        "repos": [],
        "engineArgs": [],
        "upstreams": [],
        "benchmarks": False,
    }


def test_operator_and_pods_read_the_same_permissions() -> None:
    wanted = {
        "remoteCode": True,
        "pickle": True,
        "repos": ["org/*", "a/b@v1"],
        "engineArgs": ["hf_overrides"],
        "upstreams": [{"url": "https://api.example.com/v1", "apiKeys": ["team-a"]}],
    }
    documents = chart.render(OPERATED | {"allow": wanted})
    config = chart.one(documents, "ConfigMap", "llm-allow")
    assert config["data"]["allow.json"] == annotation(documents)
    assert allow.parse(annotation(documents)) == allow.Allow.model_validate(wanted)
    spec = chart.pod(documents)
    server = chart.container(spec, "server")
    (argument,) = [part for part in server["args"] if part.startswith("--allow=")]
    (mount,) = [each for each in server["volumeMounts"] if each["name"] == "allow"]
    assert argument == f"--allow={mount['mountPath']}/allow.json"
    assert {"name": "allow", "configMap": {"name": "llm-allow"}} in spec["volumes"]


def test_other_permissions_do_not_roll_the_pods() -> None:
    one, other = (chart.render(OPERATED | {"allow": {"repos": ["org/*", *more]}}) for more in ([], ["b/*"]))
    assert chart.pod(one) == chart.pod(other)
    assert annotation(one) != annotation(other)


def test_without_the_operator_author_and_owner_are_one_and_pods_check_nothing() -> None:
    documents = chart.render({"allow": {"repos": []}})
    assert not any(
        part.startswith("--allow") for part in chart.container(chart.pod(documents), "server")["args"]
    )
    assert not [each for each in documents if each["metadata"]["name"] == "llm-allow"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"repo": "other/name"},
            "chat has model.repo other/name, revision main, which allow.repos does not contain",
        ),
        (
            {"repo": "org/name", "trustRemoteCode": True},
            "chat has model.trustRemoteCode, but allow.remoteCode is false",
        ),
        ({"repo": "org/name", "allowPickle": True}, "chat has model.allowPickle, but allow.pickle is false"),
    ],
)
def test_an_endpoint_that_the_operator_would_refuse_is_refused_with_the_values(
    model: dict[str, Any], said: str
) -> None:
    with pytest.raises(chart.Refused, match=re.escape(said)):
        chart.render(OPERATED | {"endpoints": [chart.endpoint(model=model)]})


@pytest.mark.parametrize("entry", ["*", "org/*", "org/name", "org/name@v1", "*@v1", "org/*@v1"])
def test_every_form_of_a_repository_means_the_same_to_chart_and_operator(entry: str) -> None:
    model = {"repo": "org/name", "revision": "v1"}
    documents = chart.render(
        OPERATED | {"allow": {"repos": [entry]}, "endpoints": [chart.endpoint(model=model)]}
    )
    assert allow.parse(annotation(documents)).repos == [entry]


@pytest.mark.parametrize("entry", ["name", "org/", "o*/name", "org/na*", "org/name@", "https://hub/org/name"])
def test_what_is_no_repository_is_refused_by_the_schema(entry: str) -> None:
    with pytest.raises(chart.Refused, match="/allow/repos/0"):
        chart.render({"allow": {"repos": [entry]}})


def test_chart_and_library_know_the_same_repositories() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    assert schema["properties"]["allow"]["properties"]["repos"]["items"]["pattern"] == allow.REPO_PATTERN


def test_benchmarks_are_closed_and_where_they_are_open_the_operator_may_make_one_job() -> None:
    image = {"benchmark": {"image": "registry.example.com/tritonllm:bench"}}

    def granted(**allow: bool) -> tuple[str | None, list[Any]]:
        documents = chart.render(
            OPERATED | SIMULATED | image | {"weights": {"enabled": False}, "allow": allow}
        )
        rules = chart.one(documents, "Role", "llm-operator")["rules"]
        annotations = chart.one(documents, "Deployment")["metadata"]["annotations"]
        jobs = [(rule.get("resourceNames"), rule["verbs"]) for rule in rules if "jobs" in rule["resources"]]
        return annotations.get("tritonllm.io/benchmarks"), jobs

    assert granted() == (None, [])
    assert granted(benchmarks=True) == ("true", [(None, ["create"]), (["llm-benchmark"], ["delete"])])


def test_what_a_benchmark_requests_reaches_the_job() -> None:
    resources = {"requests": {"cpu": "500m"}}
    asked = {"image": "registry.example.com/tritonllm:bench", "resources": resources}
    metadata = chart.one(chart.render({"benchmark": asked}), "Deployment")["metadata"]
    assert json.loads(metadata["annotations"]["tritonllm.io/benchmark-resources"]) == resources
