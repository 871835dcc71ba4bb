"""Endpoint and policy files: YAML or JSON in, validated resources out, with every problem of every file at once.

Used by each command that takes a file, by `serve` while it watches its files, and by the operator (`parse`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import ruamel.yaml
import ruamel.yaml.error

from tritonllm import api, explain, guardrails, versions
from tritonllm.render import engine_args

M = TypeVar("M", bound=pydantic.BaseModel)


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct.

    Attributes:
        file: which file, and which of its documents where there are several.
        path: the field, such as `spec.guardrails.input[0].action`; empty where the whole document is meant.
        message: what is wrong and what to do.
    """

    file: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.message) if part)


class Invalid(ValueError):
    """Files that can't be used; its text has a line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load(paths: Iterable[Path | str], *, vllm_version: str | None = None) -> list[api.LLMEndpoint]:
    """Reads endpoints.

    Args:
        paths: files with one or many YAML documents, a Kubernetes `List`, or the same as JSON.
        vllm_version: the vLLM whose arguments `engine.args` are checked against; None for the installed one.

    Returns:
        The endpoints in the order of the files. Their names are unique.

    Raises:
        Invalid: something is wrong; it carries all problems of all files.
    """
    endpoints: list[api.LLMEndpoint] = []
    problems: list[Problem] = []
    homes: dict[str, str] = {}
    vllm_version = vllm_version or versions.installed_version()
    for path in paths:
        try:
            found, more = parse(_read(path), str(path), vllm_version=vllm_version)
        except Invalid as error:
            found, more = [], error.problems
        problems += more
        for endpoint in found:
            if endpoint.name in homes:
                message = f"an endpoint `{endpoint.name}` is already in {homes[endpoint.name]}; give it another name"
                problems.append(Problem(str(path), "metadata.name", message))
            homes.setdefault(endpoint.name, str(path))
        endpoints += found
    if problems:
        raise Invalid(problems)
    return endpoints


def parse(
    text: str, source: str, *, vllm_version: str | None = None
) -> tuple[list[api.LLMEndpoint], list[Problem]]:
    """Reads endpoints from a text; pure.

    Args:
        text: YAML or JSON.
        source: where it comes from, for the messages.
        vllm_version: the vLLM whose arguments `engine.args` are checked against; None for the newest known.

    Returns:
        The endpoints that are valid, and the problems of the others.
    """
    endpoints: list[api.LLMEndpoint] = []
    problems: list[Problem] = []
    try:
        documents = _documents(text)
    except (ruamel.yaml.error.YAMLError, ValueError, RecursionError) as error:
        return [], [Problem(source, "", _syntax(error))]
    if not documents:
        problems.append(
            Problem(source, "", f"is empty; an endpoint begins with `apiVersion: {api.API_VERSION}`")
        )
    for file, prefix, data in _resources(documents, source):
        endpoint, found = _validate(data, api.LLMEndpoint)
        if endpoint is not None:
            found = engine_args.check(endpoint.spec.engine, endpoint.spec.model, vllm_version)
            found += [
                (f"spec.guardrails.{path}", text) for path, text in _uncompilable(endpoint.spec.guardrails)
            ]
        problems += [
            Problem(file, ".".join(filter(None, (prefix, path))), message) for path, message in found
        ]
        if endpoint is not None and not found:
            endpoints.append(endpoint)
    return endpoints, problems


def load_policy(path: Path | str) -> api.Guardrails:
    """Reads a policy: a file with the `guardrails` section of an endpoint alone, or with a whole endpoint.

    Raises:
        Invalid: something is wrong; it carries all problems.
    """
    text, source = _read(path), str(path)
    try:
        documents = _documents(text)
    except (ruamel.yaml.error.YAMLError, ValueError, RecursionError) as error:
        raise Invalid([Problem(source, "", _syntax(error))]) from None
    if len(documents) != 1:
        raise Invalid([Problem(source, "", f"holds {len(documents)} documents; a policy is exactly one")])
    if isinstance(documents[0], dict) and "kind" in documents[0]:
        endpoints, problems = parse(text, source)
        if not problems and len(endpoints) != 1:
            problems = [
                Problem(source, "", f"holds {len(endpoints)} endpoints; a policy is that of exactly one")
            ]
        policy = endpoints[0].spec.guardrails if not problems else None
    else:
        policy, found = _validate(documents[0], api.Guardrails)
        if policy is not None and (found := _uncompilable(policy)):
            policy = None
        problems = [Problem(source, place, message) for place, message in found]
    if policy is None:
        raise Invalid(problems)
    return policy


def _read(path: Path | str) -> str:
    try:
        # Editors on Windows put a byte order mark in front.
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Invalid([Problem(str(path), "", f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise Invalid([Problem(str(path), "", f"is not UTF-8: bad byte at offset {error.start}")]) from None


def _documents(text: str) -> list[Any]:
    if text.lstrip()[:1] in ("{", "["):
        # What the operator writes is JSON and can be long; it is also YAML, but read 50 times faster this way.
        try:
            return [json.loads(text, object_pairs_hook=_unique)]
        except json.JSONDecodeError:
            pass
    documents = ruamel.yaml.YAML(typ="safe", pure=True).load_all(text)
    return [document for document in documents if document is not None]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key `{twice}` is there twice in one object; keep one")
    return found


def _resources(documents: list[Any], source: str) -> Iterator[tuple[str, str, Any]]:
    """Each resource with the name of its document and its path inside that."""
    for number, data in enumerate(documents, start=1):
        file = source if len(documents) == 1 else f"{source} (document {number})"
        if isinstance(data, dict) and data.get("kind") == "List" and isinstance(data.get("items"), list):
            for index, item in enumerate(data["items"]):
                yield file, f"items[{index}]", item
        else:
            yield file, "", data


def _validate(data: Any, model: type[M]) -> tuple[M | None, list[tuple[str, str]]]:
    try:
        return model.model_validate(data), []
    except pydantic.ValidationError as error:
        return None, explain.problems(error, model)


def _uncompilable(policy: api.Guardrails) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    for direction, rules in (("input", policy.input), ("output", policy.output)):
        try:
            guardrails.compile(rules)
        except guardrails.PolicyError as error:
            problems.append((direction, str(error)))
    return problems


def _syntax(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"can't be read: {str(error).splitlines()[0]}"
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    return f"{place}: {getattr(error, 'problem', None) or error}"
