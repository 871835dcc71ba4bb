"""The table of the kinds of rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonllm import guardrails, rules
from tritonllm.guardrails import judges

DOCUMENTS = Path(__file__).parents[4] / "docs" / "api.md"
SMALLEST = {
    "banned": {"phrases": ["project falcon"]},
    "profanity": {},
    "pattern": {"regex": "a+"},
    "pii": {"types": ["email"]},
    "secrets": {},
    "classifier": {"model": "toxicity", "labels": ["toxic"]},
}


def test_every_kind_is_a_field_of_a_rule() -> None:
    kinds = {kind.__name__.lower() for kind in rules.Kind.__subclasses__()}
    assert kinds == {name.lower() for name in rules.KINDS} == {name.lower() for name in SMALLEST}


@pytest.mark.parametrize("name", rules.KINDS)
def test_every_kind_compiles_to_a_matcher_or_a_judge_and_is_documented(name: str) -> None:
    rule = rules.Rule.model_validate({"name": "a", "action": "Block", name: SMALLEST[name]})
    assert type(rule.kind).__name__.lower() == name.lower()
    assert guardrails.compile([rule]).matchers or judges.compile([rule], "input")
    assert f"`{name}`" in DOCUMENTS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", rules.KINDS)
def test_a_kind_that_finds_no_characters_can_not_mask_any(name: str) -> None:
    rule = {"name": "a", "action": "Mask", name: SMALLEST[name]}
    if getattr(rules, name.capitalize()).maskable:
        rules.Rule.model_validate(rule)
    else:
        with pytest.raises(ValueError, match=f"not supported by `{name}`"):
            rules.Rule.model_validate(rule)
