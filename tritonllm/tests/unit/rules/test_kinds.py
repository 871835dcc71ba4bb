"""The table of the kinds of rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonllm import guardrails, rules

DOCUMENTS = Path(__file__).parents[4] / "docs" / "api.md"
SMALLEST = {
    "banned": {"phrases": ["project falcon"]},
    "profanity": {},
    "pattern": {"regex": "a+"},
    "pii": {"types": ["email"]},
    "secrets": {},
}


def test_every_kind_is_a_field_of_a_rule() -> None:
    kinds = {kind.__name__.lower() for kind in rules.Kind.__subclasses__()}
    assert kinds == {name.lower() for name in rules.KINDS} == {name.lower() for name in SMALLEST}


@pytest.mark.parametrize("name", rules.KINDS)
def test_every_kind_compiles_to_searches_and_is_documented(name: str) -> None:
    rule = rules.Rule.model_validate({"name": "a", "action": "Mask", name: SMALLEST[name]})
    assert type(rule.kind).__name__.lower() == name.lower()
    assert guardrails.compile([rule]).matchers
    assert f"`{name}`" in DOCUMENTS.read_text(encoding="utf-8")
