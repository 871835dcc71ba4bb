"""values.yaml, its schema and the templates know the same values, and each is explained."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

import chart
from tritonllm import api

FOLDERS = [chart.CHART, chart.OPERATOR]
ROOT = chart.CHART.parents[1]
# Values that are maps or lists of Kubernetes' own, given to it as a whole.
WHOLE = {
    "autoscaling.behavior",
    "resources",
    "weights.sync.resources",
    "benchmark.resources",
    "test.resources",
    "dashboard.labels",
    "podSecurityContext",
    "podTemplate",
    "securityContext",
}


@functools.cache
def values_of(folder: chart.Path) -> dict[str, Any]:
    return chart.load((folder / "values.yaml").read_text())


@functools.cache
def schema_of(folder: chart.Path) -> dict[str, Any]:
    return json.loads((folder / "values.schema.json").read_text())


@functools.cache
def templates_of(folder: chart.Path, *without: str) -> str:
    files = [path for path in sorted((folder / "templates").rglob("*")) if path.is_file()]
    return "\n".join(path.read_text() for path in files if path.name not in without)


def leaves(values: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and path not in WHOLE:
            yield from leaves(value, f"{path}.")
        else:
            yield path


def commented(folder: chart.Path) -> set[str]:
    """Paths in values.yaml that have a `# --` comment right above them."""
    found, path, explained = set(), [], False
    for line in (folder / "values.yaml").read_text().splitlines():
        if match := re.match(r"( *)([\w]+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if explained:
                found.add(".".join(path))
            explained = False
        elif line.strip().startswith("# --"):
            explained = True
        elif not line.strip().startswith("#"):
            explained = False
    return found


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from objects(value, f"{path}[{index}]")


of_each_chart = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
of_each_value = pytest.mark.parametrize(
    ("folder", "path"),
    [(folder, path) for folder in FOLDERS for path in sorted(leaves(values_of(folder)))],
    ids=lambda given: given.name if isinstance(given, chart.Path) else given,
)


@of_each_value
def test_every_value_is_explained(folder: chart.Path, path: str) -> None:
    assert path in commented(folder), f"{path} needs a comment that begins with `# --`"


@of_each_value
def test_every_value_is_used(folder: chart.Path, path: str) -> None:
    # What only checks or mentions a value does not make it do anything.
    rendering = templates_of(folder, "_checks.tpl", "NOTES.txt")
    assert re.search(rf"\.Values\.{re.escape(path)}(?![\w.])", rendering)


@of_each_chart
def test_templates_use_no_value_that_does_not_exist(folder: chart.Path) -> None:
    known = {
        path
        for leaf in leaves(values_of(folder))
        for path in itertools.accumulate(leaf.split("."), "{}.{}".format)
    }
    used = {name.rstrip(".") for name in re.findall(r"\.Values\.([\w.]+)", templates_of(folder))}
    assert {path for path in used - known if not path.startswith("resources.")} == set()


@of_each_value
def test_every_value_is_in_the_schema(folder: chart.Path, path: str) -> None:
    part = schema_of(folder)
    for key in path.split("."):
        part = part["properties"][key]


@of_each_chart
def test_the_schema_knows_no_value_that_does_not_exist(folder: chart.Path) -> None:
    def walk(schema: dict[str, Any], values: Any, path: str) -> Iterator[str]:
        for key, part in schema.get("properties", {}).items():
            inside = f"{path}{key}"
            if not isinstance(values, dict) or key not in values:
                yield inside
            elif inside not in WHOLE:
                yield from walk(part, values[key], f"{inside}.")

    missing = set(walk(schema_of(folder), values_of(folder), ""))
    # Affinity has no default, but its kinds are known.
    assert missing == {"affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity"}


@of_each_chart
def test_no_object_of_the_schema_takes_unknown_keys(folder: chart.Path) -> None:
    """But for maps of texts, and Kubernetes' own objects, which the API server checks."""
    opened = {path for path, schema in objects(schema_of(folder)) if "additionalProperties" not in schema}
    kubernetes_own = re.compile(
        r"affinity\.properties\.\w+|.*\.(labelSelector|podSelector|namespaceSelector|valueFrom)|properties\.extra(Volumes|Containers)\.items"
        r"|properties\.podTemplate\.properties\.spec"
        r"|properties\.(podS|s)ecurityContext"
    )
    assert {path for path in opened if not kubernetes_own.search(path)} == set()


def test_the_schema_of_endpoints_is_the_endpoints_own() -> None:
    spec = importlib.util.spec_from_file_location("values_schema", ROOT / "tools" / "values_schema.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.FILE.read_text()
    assert text == tool.current(text), "run `python tools/values_schema.py`"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 2}, "'replica' not allowed"),
        ({"weights": {"sync": {"token": "x"}}}, "/weights/sync': additional properties 'token' not allowed"),
        ({"endpoints": [chart.endpoint(guardrails={"inputs": []})]}, "'inputs' not allowed"),
        ({"endpoints": [{"name": "chat", "spec": {"model": {"repo": "a/b"}}}]}, "'guardrails'"),
        ({"endpoints": [chart.endpoint("Chat")]}, "/endpoints/0/name"),
        ({"gpu": {"count": "two"}}, "/gpu/count"),
        ({"sharedMemory": "lots"}, "/sharedMemory"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        ({"image": {"digest": "sha256:1234"}}, "/image/digest"),
    ],
)
def test_a_value_of_the_wrong_name_or_kind_is_refused_with_its_place(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(chart.Refused, match=re.escape(said)):
        chart.render(values)


def test_the_image_holds_the_vllm_that_the_chart_says() -> None:
    versions = dict(
        line.split("=", 1)
        for line in (ROOT / "images" / "versions.env").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    assert values_of(chart.CHART)["image"]["runtime"] == f"vllm-{versions['TRITON_VLLM_VERSION']}"


def test_the_checks_know_the_defaults_of_an_endpoint() -> None:
    checks = (chart.CHART / "templates" / "_checks.tpl").read_text()
    timeout = api.Limits().request_timeout_seconds
    assert f'dig "limits" "requestTimeoutSeconds" {timeout:g} ' in checks
    tables = (ROOT / "tritonllm" / "src" / "tritonllm" / "engines" / "vllm_tables").glob("*.json")
    memory = max(json.loads(table.read_text())["gpu_memory_utilization"]["default"] for table in tables)
    assert f'dig "gpu_memory_utilization" {memory} ' in checks
