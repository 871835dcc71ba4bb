"""Reads and validates endpoint and policy files, YAML or JSON, and reports every problem of every file at once.

Used by the commands that take files, by `serve` when its files change, and by the operator (`resource`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import ruamel.yaml
import ruamel.yaml.error

from tritonllm import api, phrase_lists, validation_errors, versions

M = TypeVar("M", bound=pydantic.BaseModel)
_SUFFIXES = (".yaml", ".yml", ".json")
# The operator reads the same rules in each pass, and folding ten thousand phrases takes 40 ms.
_MAX_REFUSALS = 20_000
_refusals: dict[bytes, str] = {}

NEEDED = f"{api.GROUP}/needed"
"""Annotation of a `List`: comma-separated endpoints without which the server of the list must not be ready."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a file.

    Attributes:
        file: the file, and the number of the document if there are several.
        path: the field, such as `spec.guardrails.input[0].action`; empty for the whole document.
        message: what is wrong and what to do.
    """

    file: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.message) if part)


class Invalid(ValueError):
    """Files that are invalid; the text has a line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load(
    paths: Iterable[Path | str],
    *,
    vllm_version: str | None = None,
    deep: bool = True,
    keep_references: bool = False,
) -> list[api.LLMEndpoint]:
    """Reads endpoints.

    Args:
        paths: files with one or many YAML documents, a Kubernetes `List`, or the same as JSON; or directories
            of such files.
        vllm_version: version of vLLM to check `engine.args` against; None for the installed one.
        deep: also check engine arguments and compile rules, which takes most of the time.
        keep_references: leave references to ConfigMaps as they are; otherwise these are documents of the same file.

    Returns:
        The endpoints in the order of the files, with unique names.

    Raises:
        Invalid: any file is invalid; it has all problems of all files.
    """
    endpoints: list[api.LLMEndpoint] = []
    problems: list[Problem] = []
    homes: dict[str, str] = {}
    vllm_version = vllm_version or versions.installed_version()
    for path in expand(paths):
        try:
            found, more = parse(
                _read(path),
                str(path),
                vllm_version=vllm_version,
                deep=deep,
                keep_references=keep_references,
            )
        except Invalid as error:
            found, more = [], error.problems
        problems += more
        for endpoint in found:
            if endpoint.name in homes:
                message = f"an endpoint `{endpoint.name}` is already defined in {homes[endpoint.name]}; rename one of them"
                problems.append(Problem(str(path), "metadata.name", message))
            homes.setdefault(endpoint.name, str(path))
        endpoints += found
    if not problems:
        problems = [
            Problem(homes[name], f"{name}: {path}", message)
            for name, path, message in unresolved({each.name: each for each in endpoints})
        ]
    if problems:
        raise Invalid(problems)
    return endpoints


@dataclasses.dataclass(frozen=True, slots=True)
class Readable:
    """Endpoints of files, of which some could not be read.

    Attributes:
        endpoints: to serve, in the order of the files.
        unreadable: what is wrong with the others, and what to do, by name. One of them is among `endpoints` if there is
            a former version of it.
    """

    endpoints: list[api.LLMEndpoint]
    unreadable: Mapping[str, str]


def load_readable(
    paths: Iterable[Path | str], former: Iterable[api.LLMEndpoint] = (), *, deep: bool = True
) -> Readable:
    """Reads endpoints; one that is invalid, such as one that is written for a newer version, leaves the others alone.

    Args:
        paths: as for `load`.
        former: the endpoints of the last time. One that is unreadable now stays as it was.
        deep: as for `load`.

    Raises:
        Invalid: a file cannot be read as a whole, an endpoint has no name of its own, or none can be read.
    """
    before = {endpoint.name: endpoint for endpoint in former}
    found: dict[str, api.LLMEndpoint | None] = {}
    problems: dict[str, list[Problem]] = {}
    for path in expand(paths):
        for entry in _entries(_read(path), str(path), vllm_version=versions.installed_version(), deep=deep):
            if not entry.name or entry.name in found:
                # It is not known which endpoint to leave out. This raises, with the problems of all files.
                load(paths, deep=deep)
            found[entry.name] = entry.endpoint or before.get(entry.name)
            if entry.endpoint is None:
                problems[entry.name] = entry.problems
    endpoints = {name: endpoint for name, endpoint in found.items() if endpoint is not None}
    for name, field, message in unresolved(endpoints):
        problems.setdefault(name, []).append(Problem("", field, message))
        if name in before:
            endpoints[name] = before[name]
        else:
            endpoints.pop(name, None)
    if problems and not endpoints:
        raise Invalid([problem for each in problems.values() for problem in each])
    return Readable(list(endpoints.values()), {name: _unreadable(each) for name, each in problems.items()})


def _unreadable(problems: Iterable[Problem]) -> str:
    return f"{'; '.join(map(str, problems))}; correct it, or upgrade tritonllm if it is written for a newer version"


def unresolved(endpoints: Mapping[str, api.LLMEndpoint]) -> list[tuple[str, str, str]]:
    """Finds rules that ask a classifier which is not there; pure.

    Args:
        endpoints: those of all pools, by name.

    Returns:
        The name of the endpoint that has such a rule, the path of the field, and what is wrong with it.
    """
    problems: list[tuple[str, str, str]] = []
    for endpoint in endpoints.values():
        for name, path in endpoint.classifiers.items():
            asked = endpoints.get(name)
            if asked is not None and asked.is_classifier and asked.spec.pool == endpoint.spec.pool:
                continue
            if asked is None:
                reason = "there is none"
            elif not asked.is_classifier:
                reason = f"its type is {asked.spec.engine.type}"
            else:
                reason = f"its pool is {asked.spec.pool}"
            problems.append(
                (
                    endpoint.name,
                    path,
                    f"`{name}` must be an endpoint of pool {endpoint.spec.pool} with `engine.type: classifier`, but"
                    f" {reason}",
                )
            )
    return problems


def needed(paths: Iterable[Path | str]) -> frozenset[str]:
    """Names of the endpoints in the `NEEDED` annotations of files; files that cannot be read are skipped.

    Args:
        paths: as for `load`.
    """
    found: set[str] = set()
    for path in expand(paths):
        try:
            text = _read(path)
            # Only files of the operator have it; parsing the YAML of others would take long.
            documents = _documents(text) if NEEDED in text else []
        except (ruamel.yaml.error.YAMLError, ValueError, RecursionError):
            continue
        for document in documents:
            found.update(needed_of(document))
    return frozenset(found)


def needed_of(document: Any) -> list[str]:
    """Names of the endpoints in the `NEEDED` annotation of one document."""
    try:
        return [name for name in document["metadata"]["annotations"][NEEDED].split(",") if name]
    except (KeyError, TypeError, AttributeError):
        return []


def parse(
    text: str,
    source: str,
    *,
    vllm_version: str | None = None,
    deep: bool = True,
    keep_references: bool = False,
) -> tuple[list[api.LLMEndpoint], list[Problem]]:
    """Reads endpoints from a string; pure.

    Args:
        text: YAML or JSON.
        source: name of the source, for the problems.
        vllm_version: version of vLLM to check `engine.args` against; None for the newest known.
        deep: also check engine arguments and compile rules.
        keep_references: as for `load`.

    Returns:
        The valid endpoints, and the problems of the others.
    """
    try:
        entries = list(
            _entries(text, source, vllm_version=vllm_version, deep=deep, keep_references=keep_references)
        )
    except Invalid as error:
        return [], error.problems
    return (
        [entry.endpoint for entry in entries if entry.endpoint is not None],
        [problem for entry in entries for problem in entry.problems],
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """One resource of a file; the name is empty where it has none that can be read."""

    name: str
    endpoint: api.LLMEndpoint | None
    problems: list[Problem]


def _entries(
    text: str, source: str, *, vllm_version: str | None, deep: bool, keep_references: bool = False
) -> Iterator[_Entry]:
    try:
        documents = _documents(text)
    except (ruamel.yaml.error.YAMLError, ValueError, RecursionError) as error:
        raise Invalid([Problem(source, "", _syntax(error))]) from None
    if not documents:
        message = f"is empty; an endpoint starts with `apiVersion: {api.API_VERSION}`"
        raise Invalid([Problem(source, "", message)])
    config_maps = {name: data for _, _, data in _resources(documents, source) if (name := _config_map(data))}
    for file, prefix, data in _resources(documents, source):
        if _config_map(data):
            continue
        endpoint, found = resource(
            data,
            vllm_version=vllm_version,
            deep=deep,
            config_maps=None if keep_references else config_maps,
        )
        problems = [Problem(file, ".".join(filter(None, (prefix, path))), message) for path, message in found]
        yield _Entry(name_of(data), endpoint, problems)


def name_of(data: Any) -> str:
    """The name of a resource, however little of the rest can be read; empty if it has none."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def resource(
    data: Any,
    *,
    vllm_version: str | None = None,
    deep: bool = True,
    config_maps: phrase_lists.ConfigMaps | None = None,
) -> tuple[api.LLMEndpoint | None, list[tuple[str, str]]]:
    """Validates one LLMEndpoint from a file or from the API server; pure.

    Args:
        data: the resource.
        vllm_version: version of vLLM to check `engine.args` against; None for the newest known.
        deep: also check engine arguments and compile rules.
        config_maps: where its lists of phrases come from; None to leave references to them as they are.

    Returns:
        The endpoint, or None and its problems: pairs of a field's path and what is wrong with it.
    """
    endpoint, found = _validate(data, api.LLMEndpoint)
    if endpoint is not None and config_maps is not None:
        endpoint, found = phrase_lists.expand(endpoint, config_maps)
    if endpoint is not None and deep and not found:
        found = _beyond_the_schema(endpoint.spec, vllm_version)
    return (None if found else endpoint), found


def load_policy(path: Path | str) -> api.Guardrails:
    """Reads a policy: a file with the `guardrails` section of an endpoint, or with a whole endpoint and its ConfigMaps.

    Raises:
        Invalid: the file is invalid; it has all problems.
    """
    text, source = _read(path), str(path)
    if any(isinstance(document, dict) and "kind" in document for document in _readable(text, source)):
        endpoints, problems = parse(text, source)
        if not problems and len(endpoints) != 1:
            problems = [Problem(source, "", f"contains {len(endpoints)} endpoints; expected exactly one")]
        policy = endpoints[0].spec.guardrails if not problems else None
    else:
        policy, found = _validate(_only_document(text, source), api.Guardrails)
        if policy is not None and (found := _uncompilable(policy)):
            policy = None
        problems = [Problem(source, place, message) for place, message in found]
    if policy is None:
        raise Invalid(problems)
    return policy


def load_document(path: Path | str) -> Any:
    """Reads a file with one YAML or JSON document.

    Raises:
        Invalid: the file cannot be read, or does not have exactly one document.
    """
    return _only_document(_read(path), str(path))


def expand(paths: Iterable[Path | str]) -> list[Path]:
    """Endpoint files, with each directory replaced by its files, sorted by name.

    Args:
        paths: files and directories. In a mounted ConfigMap each key is a file; the hidden directories beside
            them, in which Kubernetes stores their contents, are skipped.

    Returns:
        The files. A directory without any is kept, and reading it fails.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [file for file in path.glob("[!.]*") if file.suffix in _SUFFIXES] if path.is_dir() else []
        found += sorted(inside) or [path]
    return found


def identities(paths: Iterable[Path]) -> list[tuple[str | int, ...]]:
    """What differs after a change of a file; a file that a symbolic link leads to counts, as in a mounted ConfigMap.

    Args:
        paths: files and directories, as for `expand`.
    """
    return [(str(path), *_identity(path)) for path in expand(paths)]


def _identity(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def _read(path: Path | str) -> str:
    if Path(path).is_dir():
        raise Invalid([Problem(str(path), "", f"contains no {', '.join(_SUFFIXES)} file")])
    try:
        # Editors on Windows write a byte order mark.
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Invalid([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise Invalid([Problem(str(path), "", f"is not UTF-8: bad byte at offset {error.start}")]) from None


def _documents(text: str) -> list[Any]:
    if text.lstrip()[:1] in ("{", "["):
        # Files of the operator are JSON and can be long: as JSON they are read 50 times faster than as YAML.
        try:
            return [json.loads(text, object_pairs_hook=_unique)]
        except json.JSONDecodeError:
            pass
    documents = ruamel.yaml.YAML(typ="safe", pure=True).load_all(text)
    return [document for document in documents if document is not None]


def _readable(text: str, source: str) -> list[Any]:
    try:
        return _documents(text)
    except (ruamel.yaml.error.YAMLError, ValueError, RecursionError) as error:
        raise Invalid([Problem(source, "", _syntax(error))]) from None


def _only_document(text: str, source: str) -> Any:
    documents = _readable(text, source)
    if len(documents) != 1:
        raise Invalid([Problem(source, "", f"contains {len(documents)} documents; expected exactly one")])
    return documents[0]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key `{twice}`")
    return found


def _resources(documents: list[Any], source: str) -> Iterator[tuple[str, str, Any]]:
    """Each resource, with the name of its document and its path in it."""
    for number, data in enumerate(documents, start=1):
        file = source if len(documents) == 1 else f"{source} (document {number})"
        if isinstance(data, dict) and data.get("kind") == "List" and isinstance(data.get("items"), list):
            for index, item in enumerate(data["items"]):
                yield file, f"items[{index}]", item
        else:
            yield file, "", data


def _config_map(data: Any) -> str | None:
    """The name of a ConfigMap; None for another document."""
    if not (isinstance(data, dict) and data.get("apiVersion") == "v1" and data.get("kind") == "ConfigMap"):
        return None
    name = data["metadata"].get("name") if isinstance(data.get("metadata"), dict) else None
    return name if isinstance(name, str) and isinstance(data.get("data") or {}, dict) else None


def _validate(data: Any, model: type[M]) -> tuple[M | None, list[tuple[str, str]]]:
    try:
        return model.model_validate(data), []
    except pydantic.ValidationError as error:
        return None, validation_errors.problems(error, model)


def _beyond_the_schema(spec: api.Spec, vllm_version: str | None) -> list[tuple[str, str]]:
    trusted = spec.model is not None and spec.model.trust_remote_code
    found = spec.engine.definition.check(
        spec.engine.args, trust_remote_code=trusted, vllm_version=vllm_version
    )
    if spec.engine.definition.loads_pickle(spec.engine.args) and spec.model and not spec.model.allow_pickle:
        message = "the weights are a pickle file, which can run code; set `allowPickle: true` if you trust its authors"
        found.append(("spec.model.allowPickle", message))
    return found + [(f"spec.guardrails.{path}", text) for path, text in _uncompilable(spec.guardrails)]


def _uncompilable(policy: api.Guardrails) -> list[tuple[str, str]]:
    found = {"input": _refusal(policy.input), "output": _refusal(policy.output)}
    return [(direction, message) for direction, message in found.items() if message]


def _refusal(rules: Sequence[api.Rule]) -> str:
    """Why rules can't be compiled; empty if they can."""
    from tritonllm import guardrails

    text = json.dumps([rule.given() for rule in rules])
    digest = hashlib.sha256(text.encode()).digest()
    if digest not in _refusals:
        if len(_refusals) >= _MAX_REFUSALS:
            _refusals.clear()
        try:
            guardrails.check(rules)
            _refusals[digest] = ""
        except guardrails.PolicyError as error:
            _refusals[digest] = str(error)
    return _refusals[digest]


def _syntax(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"cannot be read: {str(error).splitlines()[0]}"
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    return f"{place}: {getattr(error, 'problem', None) or error}"
