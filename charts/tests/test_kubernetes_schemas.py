"""Every rendered document is what Kubernetes knows: no unknown field, on the oldest and on the newest version."""

from __future__ import annotations

import copy
import json

import jsonschema
import kubernetes_validate
import pytest

import chart
from tritonllm import files

OLDEST, NEWEST = "1.30", "1.37"
# Kinds that no version of Kubernetes brings: what the chart uses of them, as the projects that own them define it.
FOREIGN = {path.stem: json.loads(path.read_text()) for path in (chart.HERE / "schemas").glob("*.json")}


def check(document: chart.Document, version: str) -> None:
    if document["kind"] == "LLMEndpoint":
        assert files.parse(json.dumps(document), "")[1] == []
    elif document["kind"] in FOREIGN:
        jsonschema.validate(document, FOREIGN[document["kind"]])
    else:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", chart.VALUES, ids=lambda path: path.stem)
def test_every_document_is_valid(values: chart.Path, version: str) -> None:
    documents = chart.render(values, f"--kube-version={version}")
    assert len(documents) > 5
    for document in documents:
        check(document, version)


@pytest.mark.parametrize("example", ["everything-on", "operator-everything-on"])
def test_a_misspelt_field_would_be_found(example: str) -> None:
    for document in chart.render(chart.HERE / "values" / f"{example}.yaml"):
        broken = copy.deepcopy(document)
        inner = broken.get("spec") or broken
        inner["misspelt"] = True
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError, AssertionError)):
            check(broken, NEWEST)


@pytest.mark.parametrize(
    ("whole", "examples"), [(chart.CHART, chart.OF_POOL), (chart.OPERATOR, chart.OF_OPERATOR)]
)
def test_every_kind_of_document_is_rendered_by_some_example(
    whole: chart.Path, examples: list[chart.Path]
) -> None:
    kinds = {document["kind"] for values in examples for document in chart.render(values)}
    templates = [path for path in (whole / "templates").rglob("*.yaml") if path.name != "checks.yaml"]
    declared = {
        line.removeprefix("kind: ")
        for path in templates
        for line in path.read_text().splitlines()
        if line.startswith("kind: ")
    }
    assert kinds == declared | ({"LLMEndpoint"} if whole == chart.CHART else set())


def test_an_older_kubernetes_is_refused() -> None:
    for render in (chart.render, chart.operator):
        with pytest.raises(chart.Refused, match=r"1\.30\.0"):
            render({}, "--kube-version=1.29.14")


@pytest.mark.parametrize("values", chart.OF_POOL, ids=lambda path: path.stem)
def test_the_endpoints_are_what_serve_and_sync_read(values: chart.Path) -> None:
    documents = chart.render(values)
    given = [entry["name"] for entry in chart.load(values.read_text())["endpoints"]]
    if static := [each for each in documents if each["metadata"]["name"] == "llm-endpoints-static"]:
        endpoints, problems = files.parse(static[0]["data"]["endpoints.yaml"], "")
        assert problems == []
        assert [endpoint.name for endpoint in endpoints] == given
        assert {endpoint.spec.pool for endpoint in endpoints} == {"llm"}
    else:
        assert [each["metadata"]["name"] for each in documents if each["kind"] == "LLMEndpoint"] == given
