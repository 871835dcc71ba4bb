"""A value that fits a JSON schema, for engines that invent their answers. Pure.

It follows what schemas of tools and answers consist of: types, properties, items, enumerations, bounds, alternatives and
references inside of the schema. A `pattern` or `format` is not followed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 8


def value(schema: Any, text: str) -> Any:
    """A value that fits a schema.

    Args:
        schema: the JSON schema.
        text: what strings contain, within their bounds; numbers are the first one in it.
    """
    return _value(schema, schema, text, 0)


def _value(schema: Any, root: Any, text: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return text if schema is True else None
    if "$ref" in schema:
        return _value(_resolved(str(schema["$ref"]), root), root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "oneOf"):
        if schema.get(several):
            return _value(schema[several][0], root, text, depth + 1)
    if schema.get("allOf"):
        merged = {
            key: item for part in schema["allOf"] if isinstance(part, Mapping) for key, item in part.items()
        }
        return _value(merged, root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    match kind:
        case "object":
            properties = schema.get("properties", {})
            # Deeper down only what has to be there, so that a schema that contains itself comes to an end.
            optional = properties if depth <= _MAX_DEPTH // 2 else ()
            wanted = dict.fromkeys([*optional, *schema.get("required", ())])
            return {name: _value(properties.get(name, True), root, text, depth + 1) for name in wanted}
        case "array":
            item = _value(schema.get("items", True), root, text, depth + 1)
            return [item] * max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
        case "integer" | "number":
            number = re.search(r"\d{1,9}", text)
            found = min(int(number[0]) if number else 1, schema.get("maximum", math.inf))
            return max(found, schema.get("minimum", schema.get("exclusiveMinimum", -math.inf) + 1))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")


def _resolved(reference: str, root: Any) -> Any:
    """What a reference such as `#/$defs/City` leads to; True, any value, if that is nothing."""
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part, True) if isinstance(found, Mapping) else True
    return found
