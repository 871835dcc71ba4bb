"""Policies in a line, for the tests of the guardrails."""

from __future__ import annotations

from tritonllm import api, guardrails

Policy = guardrails.Policy


def rule(action: str = "Mask", name: str = "rule", replacement: str = "#", **kind: object) -> api.Rule:
    return api.Rule.model_validate({"name": name, "action": action, "replacement": replacement} | kind)


def banned(*phrases: str, match: str = "Word") -> Policy:
    return guardrails.compile([rule(banned={"phrases": list(phrases), "match": match})])


def pattern(regex: str) -> Policy:
    return guardrails.compile([rule(pattern={"regex": regex})])


def profanity(*allow: str) -> Policy:
    return guardrails.compile([rule(profanity={"allow": list(allow)})])


def masked(policy: Policy, text: str) -> str:
    """The masked text, which is the same whole and letter by letter."""
    whole = policy.scan(text).text
    stream = policy.stream()
    assert "".join([*map(stream.feed, text), stream.finish()]) == whole
    return whole
