"""Values that the simulated engine invents for JSON schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tritonllm.runtime import simulated_values

NODE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
    },
    "required": ["name"],
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 9},
        {"type": "string", "maxLength": 2},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "exclusiveMinimum": 5},
        {"type": "number", "maximum": -3},
        {"type": ["null", "string"]},
        {"enum": ["Rome", "Oslo"]},
        {"const": 3},
        {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}}, {"required": ["a"]}]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        {"type": "array", "maxItems": 0},
        {"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]},
        {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
        {"$ref": "#"},
        True,
        {},
    ],
    ids=json.dumps,
)
def test_a_value_fits_its_schema(schema: Any) -> None:
    found = simulated_values.value(schema, "text")
    if schema != {"$ref": "#"}:
        jsonschema.validate(found, schema)


def test_values_are_made_of_the_text() -> None:
    schema = {"properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}}}
    assert simulated_values.value(schema, "Rome, 3 days") == {"city": "Rome, 3 days", "days": 3}
    assert simulated_values.value(schema, "Rome, 30 days")["days"] == 7


def test_a_schema_that_needs_too_many_values_is_refused_at_once() -> None:
    wide = {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(50)}}
    with pytest.raises(ValueError, match="more than 10000 values"):
        simulated_values.value(wide | {"required": list(wide["properties"])}, "text")  # type: ignore[call-overload]
