"""Personal data and secrets: what is found, what is not, and what stands in its place."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tritonllm import api, guardrails

PII: dict[str, Any] = {"pii": {"types": ["email", "card", "iban", "ssn", "ip"]}}
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc+/=\n"


def mask(text: str, kind: dict[str, Any], **more: str) -> str:
    rule = api.Rule.model_validate({"name": "data", "action": "Mask"} | kind | more)
    policy = guardrails.compile([rule])
    whole = policy.scan(text)
    stream = policy.stream()
    assert "".join([*map(stream.feed, text), stream.finish()]) == whole.text
    assert {verdict.rule for verdict in whole.verdicts} <= {"data"}
    return whole.text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ann@example.org.", "write to [EMAIL]."),
        ("josé@exämple.de, o'neil+x@mail.example.co.uk", "[EMAIL], [EMAIL]"),
        ("4111 1111 1111 1111 12/27", "[CARD] 12/27"),
        ("5012 4111 1111 1111 1111", "5012 [CARD]"),
        ("3782-822463-10005 4111111111111111", "[CARD] [CARD]"),
        ("GB82 WEST 1234 5698 7654 32, DE89370400440532013000", "[IBAN], [IBAN]"),
        ("no9386011117947", "[IBAN]"),
        ("078-05-1120", "[SSN]"),
        ("10.0.0.1 and 2001:db8::1", "[IP] and [IP]"),
    ],
)
def test_personal_data_is_masked_with_its_type(text: str, masked: str) -> None:
    assert mask(text, PII) == masked


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "GB82 WEST 1234 5698 7654 33",
        "666-05-1120 000-05-1120 900-05-1120 078-00-1120 078-05-0000",
        "256.1.1.1 12:30:45",
        "DE8937040044053201300\u212a",
        "@ann a@b ann at example.org",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert mask(text, PII) == text


def test_only_the_types_asked_for_are_masked() -> None:
    text = "ann@example.org 10.0.0.1"
    assert mask(text, {"pii": {"types": ["ip"]}}) == "ann@example.org [IP]"


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18, "glpat-" + "x" * 20, "xoxb-1234567890-abc", "hf_" + "Q" * 34,
        "AIza" + "b" * 35, "sk-proj-" + "c_-" * 12, JWT, PEM + "-----END RSA PRIVATE KEY-----", PEM.rstrip(),
    ],
)  # fmt: skip
def test_a_secret_is_masked_whole(secret: str) -> None:
    assert mask(f"is: {secret}", {"secrets": {}}) == "is: [SECRET]"


@pytest.mark.parametrize("text", ["eyJub3QianNvbg.eyJzdWIi.sig", "the task-force of AKIA", "sk-short"])
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert mask(text, {"secrets": {}}) == text


def test_a_replacement_of_the_rule_replaces_every_type() -> None:
    assert mask("ann@example.org 10.0.0.1", PII, replacement="<x>") == "<x> <x>"


@pytest.mark.parametrize("text", ["4" * 20_000, "4111 " * 4000, "eyJ." * 5000, "a." * 10_000, "1:" * 10_000])
def test_refused_proposals_do_not_hold_the_interpreter(text: str) -> None:
    rules = [{"name": "a", "action": "Mask"} | PII, {"name": "b", "action": "Mask", "secrets": {}}]
    steps = guardrails.compile([api.Rule.model_validate(rule) for rule in rules]).stream().finish_steps(text)
    longest = 0.0
    while True:
        before = time.thread_time()
        if next(steps, None) is None:
            break
        longest = max(longest, time.thread_time() - before)
    assert longest < 0.1
