"""A tool with a schema that a random model can fill, for tests of tool calls and structured outputs by vLLM."""

from __future__ import annotations

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
# Only a strict tool's arguments are held to its schema by vLLM.
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather", "parameters": SCHEMA, "strict": True},
}
