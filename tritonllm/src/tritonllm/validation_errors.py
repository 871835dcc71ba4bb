"""Validation errors as sentences: one wording for endpoint files, engine arguments and sampling parameters.

Used by `files`, and so by every command that reads an endpoint and by the operator's conditions; by
`render.engine_args`; and for each request by `runtime.requests`. Pure.
"""

from __future__ import annotations

import difflib
import itertools
import json
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

PATTERNS = {
    "^[a-z0-9]": "must be 1 to 50 lower-case letters, digits and `-`, and start and end with a letter or digit",
    "^[0-9A-Za-z_./-]": "must be 1 to 128 letters, digits, `_`, `.`, `/` and `-`",
    "^[0-9A-Za-z._-]": "must be `organisation/name`, as on the Hugging Face Hub",
    r"^[^\s@]": "must be an image with its digest, `registry/name@sha256:…`, as tags change",
    r"^/\S": "must be an absolute path of at most 1024 characters, without white space",
    r"^[^/\s]": "must be a relative path of at most 255 characters, without white space",
    "^[0-9a-f]": "must be a commit hash of 40 hexadecimal digits",
}
_KINDS = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_LENGTHS = {
    "string_too_short": ("min_length", "at least", "characters"),
    "string_too_long": ("max_length", "at most", "characters"),
    "too_short": ("min_length", "at least", "entries"),
    "too_long": ("max_length", "at most", "entries"),
}


def problems(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], limit: int | None = None
) -> list[tuple[str, str]]:
    """The problems that a validation found, in the order of the fields.

    Args:
        error: what pydantic raised.
        model: the model that it validated.
        limit: describe at most this many of pydantic's errors; None for all.

    Returns:
        (path, message) pairs; the path is spelled as in the file, such as `spec.guardrails.input[0].action`.
    """
    found: dict[str, list[str]] = {}
    for detail in itertools.islice(error.errors(include_url=False), limit):
        place = list(_places(detail["loc"], model))
        messages = found.setdefault(_path([part for part, _ in place]), [])
        message = _message(detail, place[-1][1] if place else model)
        if message not in messages:
            messages.append(message)
    # For a union pydantic reports one error per member.
    return [(path, "; or ".join(messages)) for path, messages in found.items()]


def _places(loc: tuple[str | int, ...], model: type[pydantic.BaseModel]) -> Iterator[tuple[str | int, Any]]:
    """The parts of a location, each with the type that holds it, without pydantic's names for members of a union."""
    kind: Any = model
    if loc[-1:] == ("[key]",):
        loc = loc[:-2]
    for part in loc:
        members = _members(kind)
        if len(members) > 1 and not any(isinstance(member, _Model) for member in members):
            # Not a part of the path: the name of the union member that pydantic tried.
            kind = next((member for member in members if typing.get_origin(member) is list), members[0])
            continue
        holder = members[0]
        yield part, holder
        kind = _step(holder, part)


_Model = type(pydantic.BaseModel)


def _members(kind: Any) -> list[Any]:
    """The types that a value can have, without None."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [item for arg in typing.get_args(kind) if arg is not type(None) for item in _members(arg)]
    return [kind]


def _step(holder: Any, part: str | int) -> Any:
    if isinstance(holder, _Model):
        return fields(holder).get(str(part), Any)
    arguments = typing.get_args(holder)
    return arguments[-1] if arguments else Any


def fields(model: Any) -> dict[str, Any]:
    """The fields of a model under the names that files use, with their types."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _message(detail: ErrorDetails, holder: Any) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return _unknown(str(detail["loc"][-1]), holder)
    if detail["loc"][-1:] == ("[key]",):
        return f"the key {show(given)} must be a string; put it in quotes"
    if given is None:
        where = detail["loc"][-1]
        return "is empty; " + (
            f"write `{where}: {{}}`" if kind == "model_type" and where != "model" else "set it or remove it"
        )
    if kind in _KINDS:
        quotes = "; put it in quotes" if kind == "string_type" and not isinstance(given, (dict, list)) else ""
        return f"must be {_KINDS[kind]}, got {show(given)}{quotes}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"must be {words} {_bound(context[key])}, got {show(given)}"
    if kind in _LENGTHS:
        key, words, unit = _LENGTHS[kind]
        if not given:
            return "must not be empty"
        return f"must have {words} {context[key]} {unit}, got {len(given)}"
    if kind == "literal_error":
        return _choice(given, context["expected"])
    if kind == "string_pattern_mismatch":
        expected = next(
            (text for start, text in PATTERNS.items() if context["pattern"].startswith(start)), ""
        )
        return f"{expected or 'must match ' + context['pattern']}; got {show(given)}"
    empty = (
        [key for key, value in given.items() if value is None and key != "model"]
        if isinstance(given, dict)
        else []
    )
    return detail["msg"] + "".join(f"; `{key}` is empty: write `{key}: {{}}`" for key in empty)


def _unknown(name: str, holder: Any) -> str:
    known = fields(holder)
    if near := suggestion(name, known):
        return f"unknown field `{name}`{near}"
    for field, kind in known.items():
        inner = _members(kind)[0]
        if isinstance(inner, _Model) and name in fields(inner):
            return f"unknown field `{name}`; it belongs to `{field}`"
    return f"unknown field `{name}`; known fields: {', '.join(known)}"


def _choice(given: Any, expected: str) -> str:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    listed = ", ".join(f"`{choice}`" for choice in choices)
    hint = suggestion(str(given), choices, cutoff=0.5) if len(choices) > 1 else ""
    return f"must be {'one of ' if len(choices) > 1 else ''}{listed}, got {show(given)}{hint}"


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The nearest known name as the end of a message; empty if none is similar.

    Args:
        name: what was written.
        known: the names that are valid.
        cutoff: how similar a name has to be, 0 to 1.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean `{near[0]}`?" if near else ""


def show(value: Any) -> str:
    """A value as JSON, shortened for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _bound(value: float) -> str:
    # pydantic gives the bounds of a float field as floats: 0.0 for `ge=0`.
    return show(int(value) if float(value).is_integer() else value)


def _path(parts: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
