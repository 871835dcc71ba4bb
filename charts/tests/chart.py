"""Renders both charts, a pool's and the operator's, with the real helm, for every test of them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART = HERE.parent / "tritonllm-pool"
OPERATOR = HERE.parent / "tritonllm-operator"
OPERATOR_RELEASE = "tritonllm-operator"
# Whole examples, named after what they show.
VALUES = sorted((HERE / "values").glob("*.yaml"))
OF_OPERATOR = [path for path in VALUES if path.name.startswith("operator-")]
OF_POOL = [path for path in VALUES if path not in OF_OPERATOR]
# What a random secret would spoil: a rendering that is always the same.
SECRET = {"apiSecret": {"value": "golden"}}
API_KEYS = {"gateway": {"apiKeys": {"keys": {"golden": {"sha256": "0" * 64}}}}}
# A pool that needs no more than this. Tests add what they are about.
SMALL: dict[str, Any] = {
    "image": {"repository": "registry.example.com/tritonllm"},
    "allow": {"repos": ["org/*"]},
    "endpoints": [{"name": "chat", "spec": {"model": {"repo": "org/name"}, "guardrails": {}}}],
}
# The same of the operator.
SMALL_OPERATOR: dict[str, Any] = {"image": {"repository": "registry.example.com/tritonllm-operator"}}

Document = dict[str, Any]


class Refused(Exception):
    """What helm said when it would not render."""


@functools.cache
def helm() -> str:
    """The helm to use.

    Raises:
        RuntimeError: there is none.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = sorted(cache.glob("tritonllm/helm-*/helm"))
    found = shutil.which("helm") or next(iter(built), None) or shutil.which("helm", path=cache / "k8s-bin")
    if found is None:
        raise RuntimeError("no helm on the PATH; `tools/helm.sh` builds one")
    return str(found)


def load(text: str) -> Any:
    """The only document of a YAML text."""
    return yaml.safe_load(text)


def load_all(text: str) -> list[Document]:
    """The documents of a YAML text; empty ones are left out."""
    documents: list[Any] = list(yaml.safe_load_all(text))
    return [document for document in documents if document]


def text(values: Mapping[str, Any] | Path, *arguments: str, release: str = "llm") -> str:
    """What `helm template` prints.

    Args:
        values: a file, which may be of either chart, or values of a pool that are added to `SMALL`.
        arguments: more arguments of helm.
        release: name of the pool.

    Raises:
        Refused: helm would not render.
    """
    if values in OF_OPERATOR:
        return template(values.read_text(), OPERATOR_RELEASE, arguments, OPERATOR)
    given = load(values.read_text()) if isinstance(values, Path) else merged(SMALL, values)
    if not given.get("apiSecret"):
        given = merged(SECRET, given)
    if "gateway" not in given:
        given = merged(API_KEYS, given)
    return template(yaml.safe_dump(given), release, arguments)


@functools.cache
def template(values: str, release: str, arguments: tuple[str, ...] = (), chart: Path = CHART) -> str:
    """Runs helm. The same question again is answered from memory; see `text`."""
    namespace = "operators" if chart == OPERATOR else "models"
    command = [helm(), "template", release, str(chart), f"--namespace={namespace}", "--values=-", *arguments]
    done = subprocess.run(command, input=values, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(values: Mapping[str, Any] | Path, *arguments: str, release: str = "llm") -> list[Document]:
    """All documents of a rendered chart; see `text`."""
    return load_all(text(values, *arguments, release=release))


def operator(values: Mapping[str, Any], *arguments: str, release: str = OPERATOR_RELEASE) -> list[Document]:
    """All documents of a rendered operator; the values are added to `SMALL_OPERATOR`."""
    given = yaml.safe_dump(merged(SMALL_OPERATOR, values))
    return load_all(template(given, release, arguments, OPERATOR))


def one(documents: list[Document], kind: str, name: str | None = None) -> Document:
    """The only document of a kind.

    Raises:
        LookupError: there is none, or there are several.
    """
    found = [each for each in documents if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    if len(found) != 1:
        raise LookupError(f"{len(found)} documents of kind {kind}")
    return found[0]


def pod(documents: list[Document]) -> Document:
    """The spec of the serving pods."""
    return one(documents, "Deployment")["spec"]["template"]["spec"]


def container(spec: Document, name: str) -> Document:
    """A container of a pod, init containers among them.

    Raises:
        StopIteration: it has none of that name.
    """
    return next(each for each in spec.get("initContainers", []) + spec["containers"] if each["name"] == name)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged as helm merges values: what is above wins, lists are replaced."""
    result = dict(below)
    for key, value in above.items():
        held: Any = result.get(key)
        if isinstance(held, Mapping) and isinstance(value, Mapping):
            value = merged(held, value)
        result[key] = value
    return result


def endpoint(name: str = "chat", **spec: Any) -> dict[str, Any]:
    """An entry of `endpoints`."""
    return {"name": name, "spec": {"model": {"repo": "org/name"}, "guardrails": {}} | spec}
