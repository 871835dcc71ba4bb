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
_MAX_VALUES = 10_000


def value(schema: Any, text: str) -> Any:
    """A value that fits a schema.

    Args:
        schema: the JSON schema.
        text: what strings contain, within their bounds; numbers are the first one in it.

    Raises:
        ValueError: it would consist of more than 10,000 values, as a schema that contains itself many times can.
    """
    return _Inventor(schema, text).value(schema, 0)


class _Inventor:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text
        self._made = 0

    def value(self, schema: Any, depth: int) -> Any:
        self._made += 1
        if self._made > _MAX_VALUES:
            raise ValueError(f"the schema needs more than {_MAX_VALUES} values")
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return self._text if schema is True else None
        if "$ref" in schema:
            return self.value(_resolved(str(schema["$ref"]), self._root), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for several in ("anyOf", "oneOf"):
            if schema.get(several):
                return self.value(schema[several][0], depth + 1)
        if schema.get("allOf"):
            parts = [part for part in schema["allOf"] if isinstance(part, Mapping)]
            return self.value({key: item for part in parts for key, item in part.items()}, depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        match kind:
            case "object":
                properties = schema.get("properties", {})
                # Deeper down only what has to be there, so that a schema that contains itself comes to an end.
                optional = properties if depth <= _MAX_DEPTH // 2 else ()
                wanted = dict.fromkeys([*optional, *schema.get("required", ())])
                return {name: self.value(properties.get(name, True), depth + 1) for name in wanted}
            case "array":
                number = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
                return [self.value(schema.get("items", True), depth + 1) for _ in range(number)]
            case "integer" | "number":
                return self._number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                text = self._text[: schema.get("maxLength", len(self._text))]
                return text.ljust(min(schema.get("minLength", 0), _MAX_VALUES), ".")

    def _number(self, schema: Mapping[str, Any]) -> Any:
        number = re.search(r"\d{1,9}", self._text)
        found = min(int(number[0]) if number else 1, schema.get("maximum", math.inf))
        return max(found, schema.get("minimum", schema.get("exclusiveMinimum", -math.inf) + 1))


def _resolved(reference: str, root: Any) -> Any:
    """What a reference such as `#/$defs/City` leads to; True, any value, if that is nothing."""
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part, True) if isinstance(found, Mapping) else True
    return found
