"""Endpoints that send requests to a server: its key reaches one container, the network is opened, and mistakes are told."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import chart
from tritonllm import allow

URL = "https://api.example.com/v1"
PEERS = [{"ipBlock": {"cidr": "198.51.100.0/24"}}]


def values(key: str | None = "team-a", **more: Any) -> dict[str, Any]:
    args = {"url": URL, "model": "m"} | ({"api_key_name": key} if key else {})
    spec = {"engine": {"type": "openai", "args": args}, "guardrails": {}}
    return {
        "endpoints": [{"name": "chat", "spec": spec}],
        "weights": {"enabled": False},
        "gpu": {"count": 0},
        "upstreams": {"apiKeysSecret": "llm-upstreams"},
        "networkPolicy": {"upstreams": {"peers": PEERS}},
    } | more


def test_the_keys_are_mounted_into_the_serving_container_alone_where_it_looks_for_them() -> None:
    spec = chart.pod(chart.render(values(weights={"enabled": True})))
    server = chart.container(spec, "server")
    [mount] = [each for each in server["volumeMounts"] if each["name"] == "upstream-keys"]
    assert f"--upstream-keys={mount['mountPath']}" in server["args"]
    assert mount["readOnly"]
    assert {"name": "upstream-keys", "secret": {"secretName": "llm-upstreams"}} in spec["volumes"]
    others = [each for each in [*spec["containers"], *spec["initContainers"]] if each["name"] != "server"]
    assert others
    assert "upstream-keys" not in json.dumps(others)


def test_the_pods_reach_names_and_the_upstream_and_nothing_else() -> None:
    found = chart.one(chart.render(values()), "NetworkPolicy", "llm")["spec"]["egress"]
    dns, upstream = found
    assert {each["port"] for each in dns["ports"]} == {53}
    assert upstream == {"to": PEERS, "ports": [{"port": 443}]}


def test_a_pool_that_downloads_reaches_the_upstream_as_well() -> None:
    downloading = chart.render(values(weights={"enabled": True}))
    found = chart.one(downloading, "NetworkPolicy", "llm")["spec"]["egress"]
    assert found[-1] == {"to": PEERS, "ports": [{"port": 443}]}
    assert len(found) == 3
    jobs = chart.one(downloading, "NetworkPolicy", "llm-weights")["spec"]["egress"]
    assert jobs == found[:2]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"upstreams": {}}, "chat has engine.args.api_key_name, but upstreams.apiKeysSecret is empty"),
        ({"networkPolicy": {}}, f"chat sends requests to {URL}, which the NetworkPolicy does not permit"),
    ],
)
def test_what_could_not_work_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(chart.Refused, match=re.escape(said)):
        chart.render(values(**more))


@pytest.mark.parametrize(
    ("key", "entry", "permitted"),
    [
        ("team-a", None, False),
        ("team-a", {"url": URL}, False),
        ("team-a", {"url": URL, "apiKeys": ["team-b"]}, False),
        ("team-a", {"url": "https://api.example.com", "apiKeys": ["team-a"]}, False),
        ("team-a", {"url": f"{URL}/", "apiKeys": ["team-a"]}, True),
        ("team-a", {"url": "*", "apiKeys": ["*"]}, True),
        (None, {"url": URL}, True),
        (None, None, False),
    ],
)
def test_with_the_operator_the_chart_refuses_what_the_operator_would(
    key: str | None, entry: dict[str, Any] | None, permitted: bool
) -> None:
    operated = values(key, operator={"enabled": True}, allow={"upstreams": [entry] if entry else []})
    if not permitted:
        with pytest.raises(chart.Refused, match=r"which allow\.upstreams does not contain"):
            chart.render(operated)
        return
    documents = chart.render(operated)
    annotations = chart.one(documents, "Deployment")["metadata"]["annotations"]
    assert allow.parse(annotations["tritonllm.io/allow"]).upstreams == [allow.Upstream.model_validate(entry)]


def test_without_permissions_earlier_images_can_read_what_is_permitted() -> None:
    documents = chart.render({"operator": {"enabled": True}, "allow": {"repos": ["*"]}})
    annotations = chart.one(documents, "Deployment")["metadata"]["annotations"]
    assert "upstreams" not in json.loads(annotations["tritonllm.io/allow"])


def test_chart_and_library_know_the_same_upstreams() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    fields = schema["properties"]["allow"]["properties"]["upstreams"]["items"]["properties"]
    assert fields["url"]["pattern"] == allow.UPSTREAM_PATTERN
    assert fields["apiKeys"]["items"]["pattern"] == allow.UPSTREAM_KEY_PATTERN
