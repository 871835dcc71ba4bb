"""What judging costs: in proportion to the text, whatever the text; and what it holds back."""

from __future__ import annotations

import pydoc_data.topics
import re
import statistics
import time

import pytest
from policies import banned, pattern, profanity

from tritonllm import guardrails

FLOODS = {
    "spaced letters": "a ",
    "spaced s": "s ",
    "stars": "*",
    "signs that are vowels": "@*",
    "signs that are letters": "$@",
    "bars": "i|",
    "zero-width joiners": "\u200d",
    "combining marks": "\u0301",
    "marks on letters": "a\u0301",
    "letters between zero-width": "s\u200b",
    "a word that is never spelled out": "f u c ",
    "dashes between letters": "s-",
    "emoji": "😀",
    "Cyrillic": "сосо прохор хрен ",
    "Cyrillic after Latin": "a сосо ",
    "one letter": "a",
    "one word": "motherfucke",
    "quotes": '"',
    "gaps of a phrase": "plan" + " " * 31,
    "repeats of a letter": "f" + "u" * 31 + "c",
    "Chinese": "法轮",
    "what is found": "ass ",
    "letters that are two": "ß",
}
POLICIES = {
    "profanity": profanity(),
    "words": banned("plan b", "a a a", "s s s", "go falcon", ".env", "😀 x", "法轮功"),
    "substrings": banned("ass", "aa", "xxx", "plan b", "falcon", match="Substring"),
}
EXPRESSIONS = [
    ".*secret", "(a|b)*c", r"\w+@\w+\.com", r"\b\d{4}\b", "[a-z]+", "(x+x+)+y", r"\p{L}+@", r"(\w+\s?)*!", ".{5}"
]  # fmt: skip
LINES = ["a", "a@", "ab", "x", "ü", "😀a", "1234 ", "a" * 600 + "secret ", "\n"]


def flood(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


def whole(policy: guardrails.Policy, text: str) -> float:
    """Processor seconds for a text at once."""
    started = time.process_time()
    policy.scan(text)
    return time.process_time() - started


def streamed(policy: guardrails.Policy, text: str) -> tuple[float, int]:
    """Processor seconds for a text letter by letter, and the most that was held."""
    held = 0
    stream = policy.stream()
    started = time.process_time()
    for char in text:
        stream.feed(char)
        held = max(held, len(stream.held))
    stream.finish()
    return time.process_time() - started, held


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("unit", FLOODS.values(), ids=FLOODS)
def test_no_flood_costs_more_than_its_length(policy: guardrails.Policy, unit: str) -> None:
    whole(policy, flood(unit, 2000))
    # Some three times what was measured, on a slow machine.
    assert whole(policy, flood(unit, 20_000)) < 20_000 * 60e-6
    spent, held = streamed(policy, flood(unit, 2000))
    assert spent < 2000 * 400e-6
    assert held <= 256


@pytest.mark.parametrize("unit", ["a ", "a", "@*", "ass ", "\u200d"])
def test_a_text_four_times_as_long_does_not_cost_its_square(unit: str) -> None:
    for policy in POLICIES.values():
        short = min(whole(policy, flood(unit, 20_000)) for _ in range(2))
        long = min(whole(policy, flood(unit, 80_000)) for _ in range(2))
        # 4 where the cost grows with the length, 16 where with its square; neighbours on the processor double it.
        assert long < 12 * short + 0.01


def test_a_stream_costs_no_more_the_longer_it_gets() -> None:
    for policy in POLICIES.values():
        short = min(streamed(policy, flood("a ", 500))[0] for _ in range(3))
        long = min(streamed(policy, flood("a ", 4000))[0] for _ in range(2))
        # As above: 8 or 64.
        assert long < 30 * short + 0.01


@pytest.mark.parametrize("regex", EXPRESSIONS)
@pytest.mark.parametrize("unit", LINES)
def test_no_line_costs_a_pattern_more_than_its_length(regex: str, unit: str) -> None:
    policy = pattern(regex)
    assert whole(policy, flood(unit, 20_000)) < 20_000 * 60e-6
    spent, held = streamed(policy, flood(unit, 1000))
    assert spent < 1000 * 1000e-6
    assert held <= 513


def test_ordinary_prose_is_held_back_by_its_last_word_at_most() -> None:
    text = re.sub(r"\s+", " ", " ".join(pydoc_data.topics.topics.values()))[:40_000]
    stream = POLICIES["profanity"].stream()
    held: list[str] = []
    for start in range(0, len(text), 4):
        stream.feed(text[start : start + 4])
        held.append(stream.held)
    assert statistics.mean(map(len, held)) < 1.5
    assert statistics.mean(" " not in each for each in held) > 0.97
    assert statistics.mean(not each for each in held) > 0.6


def test_a_megabyte_of_prose_is_judged_within_a_second() -> None:
    text = " ".join(pydoc_data.topics.topics.values())
    assert whole(POLICIES["profanity"], flood(text.replace("*", ""), 200_000)) < 0.2
