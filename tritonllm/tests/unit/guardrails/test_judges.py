"""Judges: windows depend on the text alone, and what leaves depends on the text and its verdicts alone."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tritonllm import rules
from tritonllm.guardrails import judges, windows

BAD = "vermin"


def rule(name: str = "no-insults", action: str = "Block", **classifier: Any) -> rules.Rule:
    asks = {"model": "insults", "labels": ["insult"], "window": 128} | classifier
    return rules.Rule.model_validate({"name": name, "action": action, "classifier": asks})


def scores(text: str) -> dict[str, float]:
    bad = 0.9 if BAD in text else 0.1
    return {"insult": bad, "fine": 1 - bad}


def prose(chance: random.Random, size: int) -> str:
    words = [chance.choice(["the", "river", "is", "blue", "and", "wide", "\n", "über"]) for _ in range(size)]
    return " ".join(words)


def cut(windows_: windows.Windows, text: str, chance: random.Random) -> list[windows.Window]:
    found: list[windows.Window] = []
    while text:
        size = chance.randint(1, 300)
        found += windows_.feed(text[:size])
        text = text[size:]
    return found + windows_.finish()


def test_windows_are_the_same_however_the_text_arrives() -> None:
    chance = random.Random(1)
    for _ in range(200):
        text = prose(chance, chance.randint(0, 200))
        whole = windows.Windows(128)
        expected = whole.feed(text) + whole.finish()
        assert cut(windows.Windows(128), text, chance) == expected


def test_every_word_and_every_passage_of_less_than_half_a_window_is_whole_in_one_window() -> None:
    chance = random.Random(2)
    for _ in range(200):
        text = prose(chance, chance.randint(1, 200))
        found = cut(windows.Windows(256), text, chance)
        for start in range(0, len(text), 17):
            # Up to a word is left out at each edge.
            passage = text[start : start + 64].strip()
            assert not passage or any(passage in window.text for window in found)


def test_a_text_without_spaces_is_covered_to_its_last_character() -> None:
    for size in (1, 127, 128, 129, 191, 192, 193, 256, 1000):
        found = cut(windows.Windows(128), "x" * size, random.Random(3))
        assert {at for window in found for at in range(window.start, window.end)} == set(range(size))


def test_space_is_not_judged() -> None:
    assert windows.Windows(128).feed(" \n" * 500) == []


def test_the_time_to_cut_a_text_grows_with_its_length_and_not_faster() -> None:
    text = "the river is blue " * 200_000
    began = time.process_time()
    assert len(windows.Windows(128).feed(text)) == len(text) // 64 - 1
    # Copying the rest of the text for each window would take a minute.
    assert time.process_time() - began < 5


def judged(text: str, chance: random.Random, *some: rules.Rule) -> tuple[str, judges.JudgedText]:
    """The text that leaves when pieces and verdicts come in any order."""
    stream = judges.JudgedText(judges.compile(some, "output"))
    left, waiting = "", []
    while True:
        size = chance.randint(1, 100)
        stream.feed(text[:size], last=not text[size:])
        done, text = not text[size:], text[size:]
        waiting += stream.questions()
        chance.shuffle(waiting)
        for _ in range(len(waiting) if done else chance.randint(0, len(waiting))):
            question = waiting.pop()
            question.answer(scores(question.text))
        left += stream.take()
        if done or stream.blocked:
            return left, stream


def test_with_hold_what_leaves_depends_on_the_text_alone_and_nothing_of_a_matching_window_leaves() -> None:
    chance = random.Random(4)
    for _ in range(300):
        text = prose(chance, chance.randint(1, 150))
        if chance.random() < 0.7:
            at = chance.randint(0, len(text))
            text = f"{text[:at]} {BAD} {text[at:]}"
        whole = windows.Windows(128)
        bad = [window.start for window in whole.feed(text) + whole.finish() if BAD in window.text]
        left, stream = judged(text, chance, rule(), rule("seen", "Flag", window=256))
        assert left == (text[: bad[0]] if bad else text)
        assert stream.blocked == bool(bad)
        assert BAD not in left


def test_with_observe_everything_leaves_at_once_until_the_verdict_comes() -> None:
    stream = judges.JudgedText(judges.compile([rule(mode="Observe")], "output"))
    text = f"{BAD} " * 30
    stream.feed(text)
    assert stream.take() == text
    questions = stream.questions()
    stream.feed("more")
    for question in questions:
        question.answer(scores(question.text))
    assert stream.blocked
    assert stream.take() == ""
    stream.feed("and more", last=True)
    assert stream.take() == ""


def test_rules_that_differ_in_threshold_only_ask_once() -> None:
    some = [rule("seen", "Flag", threshold=0.05), rule("blocked", threshold=0.95)]
    stream = judges.JudgedText(judges.compile(some, "input"))
    stream.feed("the river is blue", last=True)
    [question] = stream.questions()
    assert [found.name for found in question.answer(scores(question.text))] == ["seen"]
    assert [verdict.rule for verdict in stream.verdicts] == ["seen"]
    assert stream.take() == "the river is blue"


def test_a_label_that_the_classifier_does_not_have_is_an_error_and_not_a_rule_that_never_matches() -> None:
    stream = judges.JudgedText(judges.compile([rule(labels=["rude"])], "input"))
    stream.feed("hello", last=True)
    [question] = stream.questions()
    with pytest.raises(judges.UnknownLabel, match="has no label 'rude'; it has 'fine', 'insult'"):
        question.answer(scores("hello"))


def test_an_unjudged_window_that_is_skipped_holds_nothing_back() -> None:
    stream = judges.JudgedText(judges.compile([rule()], "output"))
    stream.feed("hello", last=True)
    [question] = stream.questions()
    assert stream.take() == ""
    assert stream.held
    question.skip()
    assert stream.take() == "hello"
    assert not stream.undecided
