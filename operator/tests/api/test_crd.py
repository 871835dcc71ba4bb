"""The resource, asked of a real API server: it takes and refuses what the models do, and says why in the same words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import asking
import chart
from asking import MISSING, Spec
from pool import until
from tritonllm import api, files, render

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
GOLDEN = sorted((ROOT / "tritonllm" / "tests" / "golden" / "specs").glob("*.yaml"))
SIMULATED = {"type": "simulated"}
IMAGE = f"registry.example.com/models/llama@sha256:{'0' * 64}"


def rules(*given: Spec) -> Spec:
    """A policy of these rules, each completed by a name and an action."""
    made = [{"name": f"r{number}", "action": "Block"} | rule for number, rule in enumerate(given)]
    return {"guardrails": {"output": made}}


def adapters(*given: Spec) -> Spec:
    """An engine that serves LoRA adapters, and these."""
    return {"engine": {"args": {"enable_lora": True, "max_cpu_loras": 64}}, "adapters": list(given)}


ACCEPTED: list[Spec] = [
    adapters(),
    adapters({"name": "a", "repo": "acme/a", "revision": "v2"}, {"name": "b", "path": "/lora/b"}),
    adapters(*({"name": f"a{number}", "repo": f"acme/{number}"} for number in range(64))),
    {},
    {"guardrails": {"input": [], "output": []}},
    {"model": {"path": "a/..b/c"}},
    {"model": {"path": "/weights/mine"}},
    {"model": {"image": IMAGE}},
    {"model": {"image": IMAGE, "subPath": "models/a..b"}},
    {"model": {"repo": "org/na-me.v1_x", "revision": "refs/pr/1"}},
    {"model": {"repo": "o/n", "trustRemoteCode": True, "allowPickle": True}},
    {"engine": SIMULATED},
    {"engine": SIMULATED, "model": None},
    {"engine": SIMULATED | {"args": {"anything": [1, {"b": None}], "x": 0.5}}},
    {"engine": {}},
    {"prompt": {"format": "Chat", "system": "ü" * 16384}},
    {"sampling": {"defaults": {"max_tokens": 256}, "maxTokensLimit": 256}},
    {"sampling": {"defaults": {"max_tokens": 4096}}},
    {"sampling": {"defaults": {"temperature": 2, "top_p": 0.1, "top_k": -1, "stop": ["a"], "n": None}}},
    {"sampling": {"defaults": {"logit_bias": {"5": -100, "6": 0.5}, "seed": -(2**63)}}},
    {"limits": {"requestTimeoutSeconds": 0.5, "maxQueuedRequests": 0}},
    rules(*({"profanity": {}} for _ in range(32))),
    rules({"banned": {"phrases": ["x" * 256] * 1000, "match": "Substring"}}),
    rules({"pattern": {"regex": r"(?i)\bA{2,3}\b"}, "action": "Mask", "replacement": ""}),
    rules({"profanity": None, "banned": {"phrases": ["a"]}}),
]


@pytest.mark.parametrize("spec", ACCEPTED, ids=lambda spec: json.dumps(spec)[:60])
def test_takes_what_the_models_take_and_changes_nothing_that_counts(
    guarded: httpx.Client, spec: Spec
) -> None:
    answer = asking.create(guarded, spec, validation="Strict")
    assert answer.is_success, answer.text
    given, found = (files.resource(data, deep=False) for data in (asking.resource(spec), answer.json()))
    assert given[0] is not None, given[1]
    assert found[0] is not None, found[1]
    # Defaults are written down by the server; no hash and no model may change for it.
    assert found[0].spec == given[0].spec
    repositories = [
        render.repository([endpoint], weights="/weights") for endpoint in (given[0], found[0]) if endpoint
    ]
    assert repositories[0] == repositories[1]


@pytest.mark.parametrize("path", [*EXAMPLES, *GOLDEN], ids=lambda path: path.stem)
def test_takes_every_example(guarded: httpx.Client, path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "ConfigMap":
            continue
        answer = asking.create(guarded, document["spec"], document["metadata"]["name"], "Strict")
        assert answer.is_success, answer.text


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_takes_the_endpoints_of_every_example_of_a_pool(guarded: httpx.Client, values: Path) -> None:
    for entry in yaml.safe_load(values.read_text())["endpoints"]:
        answer = asking.create(guarded, {"pool": "llm"} | entry["spec"], entry["name"], "Strict")
        assert answer.is_success, answer.text


ONE_KIND = "exactly one of `banned`, `profanity`, `pattern`, `pii`, `secrets` and `classifier` is required"
NAME = "must be 1 to 50 lower-case letters, digits and `-`"
NO_REPO = "must not contain `--` or `..`, must not have a part that starts or ends with `-` or `.`, and must not end in `.git`"

# A spec, the field, and a part of what is said of it. What both say in the same words comes first, then what the
# server says in its own.
SAME_WORDS: list[tuple[Spec, str, str]] = [
    (
        {"model": {"repo": "a/b", "path": "c"}},
        "spec.model",
        "exactly one of `repo`, `path` and `image` is required",
    ),
    ({"model": {}}, "spec.model", "exactly one of `repo`, `path` and `image` is required"),
    (
        {"engine": SIMULATED, "model": MISSING, "adapters": [{"name": "a", "path": "a"}]},
        "spec",
        "`adapters` is not supported by engine type",
    ),
    (adapters({"name": "a"}), "spec.adapters[0]", "exactly one of `repo` and `path` is required"),
    (rules({"banned": {}}), "spec.guardrails.output[0].banned", "`phrases` or `configMapRef` is required"),
    (adapters({"name": "a", "path": "a/../b"}), "spec.adapters[0]", "`path` must not contain a `..`"),
    (adapters({"name": "a", "repo": "a/b--c"}), "spec.adapters[0].repo", NO_REPO),
    (adapters({"name": "A", "repo": "a/b"}), "spec.adapters[0].name", NAME),
    ({"model": {"repo": "a/b", "image": IMAGE}}, "spec.model", "exactly one of `repo`, `path` and `image`"),
    ({"model": {"image": "registry/llama:8b"}}, "spec.model.image", "must be an image with its digest"),
    ({"model": {"path": "c", "subPath": "d"}}, "spec.model", "`subPath` requires `image`"),
    (
        {"model": {"image": IMAGE, "subPath": "a/../b"}},
        "spec.model",
        "`subPath` must not contain a `..` component",
    ),
    ({"model": {"image": IMAGE, "subPath": "/a"}}, "spec.model.subPath", "must be a relative path"),
    ({"model": {"path": "../x"}}, "spec.model", "`path` must not contain a `..` component"),
    ({"model": {"path": "a/.."}}, "spec.model", "`path` must not contain a `..` component"),
    ({"model": {"repo": "a/b", "revision": "a..b"}}, "spec.model", "`revision` must not contain `..`"),
    ({"model": {"repo": "name"}}, "spec.model.repo", "must be `organisation/name`"),
    ({"model": {"repo": "a/b--c"}}, "spec.model.repo", NO_REPO),
    ({"model": {"repo": "-a/b"}}, "spec.model.repo", NO_REPO),
    ({"model": {"repo": "a/b.git"}}, "spec.model.repo", NO_REPO),
    ({"model": {"repo": "a/b", "revision": "x y"}}, "spec.model.revision", "must be 1 to 128 letters, digits"),
    ({"model": MISSING}, "spec", "`model` is required"),
    ({"engine": SIMULATED, "model": {"repo": "a/b"}}, "spec", "`model` is not supported by engine type simulated"),
    ({"pool": "Big"}, "spec.pool", NAME),
    ({"pool": ""}, "spec.pool", NAME),
    ({"prompt": {"system": "x"}}, "spec.prompt", "`system` requires `format: Chat`"),
    (rules({}), "spec.guardrails.output[0]", ONE_KIND),
    (rules({"profanity": {}, "banned": {"phrases": ["a"]}}), "spec.guardrails.output[0]", ONE_KIND),
    (rules({"profanity": None}), "spec.guardrails.output[0]", ONE_KIND),
    (rules({"profanity": {}, "name": "A"}), "spec.guardrails.output[0].name", NAME),
    (rules({"pattern": {"regex": "x*"}}), "spec.guardrails.output[0].pattern.regex", "matches the empty string"),
]  # fmt: skip
OWN_WORDS: list[tuple[Spec, str, str]] = [
    ({"guardrails": MISSING}, "spec.guardrails", "Required value"),
    ({"guardrails": None}, "spec.guardrails", "Required value"),
    ({"guardrails": []}, "spec.guardrails", "must be of type object"),
    ({"guardrails": {"input": None}}, "spec.guardrails.input", "is empty"),
    ({"guardrails": {"input": {}}}, "spec.guardrails.input", "must be of type array"),
    ({"guardrails": {"failurePolicy": "open"}}, "spec.guardrails.failurePolicy", '"Closed", "Open"'),
    ({"pool": MISSING}, "spec.pool", "Required value"),
    ({"pool": "a" * 51}, "spec.pool", "may not be more than 50"),
    ({"engine": {"type": "tgi"}}, "spec.engine.type", '"simulated"'),
    ({"engine": {"args": []}}, "spec.engine.args", "must be of type object"),
    ({"prompt": {"format": "Chat", "system": ""}}, "spec.prompt.system", "at least 1 chars"),
    ({"prompt": {"format": "Chat", "system": "x" * 16385}}, "spec.prompt.system", "may not be more than 16384"),
    ({"sampling": {"defaults": {"max_tokens": 512}, "maxTokensLimit": 256}}, "spec.sampling", "must not exceed `maxTokensLimit`"),
    ({"sampling": {"defaults": {"max_tokens": 4097}}}, "spec.sampling", "must not exceed `maxTokensLimit`"),
    ({"sampling": {"defaults": {"temperature": 2.5}}}, "spec.sampling.defaults.temperature", "less than or equal to 2"),
    ({"sampling": {"defaults": {"top_p": 0}}}, "spec.sampling.defaults.top_p", "greater than 0"),
    ({"sampling": {"defaults": {"stop": "x"}}}, "spec.sampling.defaults.stop", "must be of type array"),
    ({"sampling": {"defaults": {"seed": 2**63}}}, "spec.sampling.defaults.seed", "must be of type integer"),
    ({"sampling": {"defaults": {"stop": ["x"] * 65}}}, "spec.sampling.defaults.stop", "at most 64 items"),
    ({"limits": {"maxConcurrentRequests": 0}}, "spec.limits.maxConcurrentRequests", "greater than or equal to 1"),
    ({"limits": {"maxConcurrentRequests": 1.5}}, "spec.limits.maxConcurrentRequests", "must be of type integer"),
    ({"limits": {"requestTimeoutSeconds": 0}}, "spec.limits.requestTimeoutSeconds", "greater than 0"),
    ({"limits": {"requestTimeoutSeconds": "9"}}, "spec.limits.requestTimeoutSeconds", "must be of type number"),
    (rules({"banned": {"phrases": []}}), "spec.guardrails.output[0].banned.phrases", "at least 1 items"),
    (rules({"banned": {"configMapRef": {"name": "words"}}}), "spec.guardrails.output[0].banned.configMapRef.key", "Required value"),
    (rules({"banned": {"configMapRef": {"name": "", "key": "a"}}}), "spec.guardrails.output[0].banned.configMapRef.name", "at least 1 chars"),
    (rules({"banned": {"phrases": None}}), "spec.guardrails.output[0].banned", "`phrases` or `configMapRef` is required"),
    (rules({"banned": {"phrases": [""]}}), "spec.guardrails.output[0].banned.phrases[0]", "at least 1 chars"),
    (rules({"banned": {"phrases": ["a"] * 10_001}}), "spec.guardrails.output[0].banned.phrases", "at most 10000 items"),
    (rules({"profanity": {}, "action": "Blok"}), "spec.guardrails.output[0].action", '"Block", "Mask", "Flag"'),
    (rules({"profanity": {}, "action": None}), "spec.guardrails.output[0].action", "Required value"),
    (rules({"profanity": {}, "name": None}), "spec.guardrails.output[0].name", "Required value"),
    (rules({"pattern": {"regex": "("}}), "spec.guardrails.output[0].pattern.regex", "missing closing )"),
    (rules({"profanity": {}, "name": "a"}, {"profanity": {}, "name": "a"}), "spec.guardrails.output[1]", "Duplicate value"),
    (rules(*({"profanity": {}} for _ in range(33))), "spec.guardrails.output", "at most 32 items"),
]  # fmt: skip


def show(value: Any) -> str:
    return json.dumps(value, default=lambda _: "MISSING")[:70] if isinstance(value, dict) else ""


@pytest.mark.parametrize(("spec", "field", "said"), [*SAME_WORDS, *OWN_WORDS], ids=show)
@pytest.mark.parametrize("validation", ["Ignore", "Strict"])
def test_refuses_with_the_field_and_a_sentence(
    guarded: httpx.Client, spec: Spec, field: str, said: str, validation: str
) -> None:
    answer = asking.create(guarded, spec, validation=validation)
    assert answer.status_code == 422, answer.text
    causes = answer.json()["details"]["causes"]
    told = [cause["message"] for cause in causes if cause.get("field", "") == field]
    assert any(said in message for message in told) or f"{field} {said}" in answer.json()["message"], causes


@pytest.mark.parametrize(("spec", "field", "said"), SAME_WORDS, ids=show)
def test_the_models_refuse_it_in_the_same_words(spec: Spec, field: str, said: str) -> None:
    assert any(path == field and said in message for path, message in asking.problems(spec))


@pytest.mark.parametrize(("spec", "field", "said"), OWN_WORDS, ids=show)
def test_the_models_refuse_it_too(spec: Spec, field: str, said: str) -> None:
    assert asking.problems(spec)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a" * 51, NAME),
        ("a.b", NAME),
        ("chat-engine", "must not end in `-engine` or `-guardrail`"),
        ("chat-guardrail", "must not end in `-engine` or `-guardrail`"),
    ],
)
def test_a_name_that_no_model_can_have_is_refused(guarded: httpx.Client, name: str, said: str) -> None:
    answer = asking.create(guarded, {}, name)
    assert answer.status_code == 422
    assert f"metadata.name {said}" in answer.json()["message"]
    assert any(said in message for _, message in asking.problems({}, name))


@pytest.mark.parametrize("name", ["a", "0", "a" * 50, "engine", "my-engine-1"])
def test_every_other_name_is_taken(guarded: httpx.Client, name: str) -> None:
    assert asking.create(guarded, {}, name).is_success
    assert asking.problems({}, name) == []


# What the operator and people see of it


def test_the_status_keeps_all_that_the_operator_writes_and_is_its_own(
    bare: httpx.Client, namespace: str
) -> None:
    place = asking.PLACE.format(namespace)
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "observedGeneration": 1,
        "conditions": [condition],
        "model": {"commit": "0" * 40},
        "adapters": [{"name": "sql", "state": "Refused", "message": "rank 64", "commit": "1" * 40}],
        "plan": {"action": "InPlace", "models": ["chat"], "message": "new rules", "disruptive": False},
        "pods": {"desired": 3, "loaded": 2, "summary": "2/3"},
        "url": "http://llm.models:8000/v2/models/chat",
    }
    resource = asking.resource({}) | {"status": status}
    assert "status" not in bare.post(place, json=resource).raise_for_status().json()
    patch = {"Content-Type": "application/merge-patch+json"}
    changed = bare.patch(f"{place}/chat/status", json={"status": status}, headers=patch)
    assert changed.raise_for_status().json()["status"] == status

    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    shown = bare.get(place, headers={"Accept": table}).raise_for_status().json()
    columns = {column["name"]: column["priority"] for column in shown["columnDefinitions"]}
    assert columns == {
        "Name": 0,
        "Ready": 0,
        "Reason": 0,
        "Model": 0,
        "Pods": 0,
        "Age": 0,
        "Plan": 1,
        "URL": 1,
    }
    cells = dict(zip(columns, shown["rows"][0]["cells"], strict=True))
    del cells["Age"]
    assert cells == {
        "Name": "chat",
        "Ready": "True",
        "Reason": "Serving",
        "Model": "org/name",
        "Pods": "2/3",
        "Plan": "InPlace",
        "URL": status["url"],
    }


def test_it_has_a_short_name_and_a_category(bare: httpx.Client) -> None:
    found = bare.get(f"/apis/{api.API_VERSION}").json()["resources"]
    (resource,) = [each for each in found if each["name"] == "llmendpoints"]
    assert (resource["shortNames"], resource["categories"]) == (["llme"], ["tritonllm"])


def test_two_appliers_can_each_own_a_rule(bare: httpx.Client, namespace: str) -> None:
    place = f"{asking.PLACE.format(namespace)}/chat"
    for manager, spec in (
        ("one", rules({"profanity": {}, "name": "a"})),
        ("two", rules({"profanity": {}, "name": "b"})),
    ):
        answer = bare.patch(
            place,
            content=json.dumps(asking.resource(spec)),
            params={"fieldManager": manager},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert answer.is_success, answer.text
    found = bare.get(place).json()["spec"]["guardrails"]["output"]
    assert [rule["name"] for rule in found] == ["a", "b"]


def test_it_is_explained_field_by_field(bare: httpx.Client) -> None:
    def schemas() -> list[dict[str, Any]]:
        answer = bare.get(f"/openapi/v3/apis/{api.API_VERSION}")
        found = answer.json().get("components", {}).get("schemas", {}) if answer.is_success else {}
        return [schema for name, schema in found.items() if name.endswith(f".{api.KIND}")]

    # The server publishes it a moment after the resource.
    until(schemas)
    (schema,) = schemas()

    def walk(part: dict[str, Any], path: str) -> None:
        for name, inner in part.get("properties", {}).items():
            assert inner.get("description"), f"{path}.{name}"
            walk(inner.get("items", inner), f"{path}.{name}")

    walk(schema["properties"]["spec"], "spec")
    walk(schema["properties"]["status"], "status")
