"""Finds banned phrases and profanity: a search in C for where one may begin, then an exact match from there.

At almost no position of an ordinary text a banned phrase begins. So the text is first reduced to its plain view, in
which an Aho-Corasick automaton and a few fixed marks find every candidate; `matcher` is asked about those only. It
can find too many candidates and never too few: a test compares it with matching from everywhere. Most streamed
text does not even need that search, see `plain_text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import ahocorasick_rs

from tritonllm.guardrails import accents, matcher, normalization, plain_text, plain_view, spans, trie

# A disguise shows where a letter meets a digit or sign, or in anything special.
_DISGUISES = ["a1", "1a", "?"]
# A letter by itself, and what may be the next one. Beside a sign, or when special, the first is a disguise
# already, unless it is a digit or sign too.
_SPELLINGS = [
    f"{first} {second}{behind}" for first in (" a", " 1", "11") for second in "a1?" for behind in " 1"
]
# A DFA is twice as fast as an NFA, and has six times its size. Most text is plain, and has a DFA of any size.
_LARGEST_DFA = 5000
_MARKS = ahocorasick_rs.AhoCorasick(_DISGUISES + _SPELLINGS)


class Wanted(NamedTuple):
    """A phrase to find, for the rule with this number, and whether only with its own accents."""

    phrase: str
    rule: int
    accents: bool = False


class Phrases:
    """All phrases of one direction of a policy that share a way of matching.

    Args:
        phrases: what to find.
        words: whether they are matched at word boundaries only.
    """

    reads_markup = True

    def __init__(self, phrases: Iterable[Wanted], *, words: bool) -> None:
        wanted = list(phrases)
        # The trie has a number for each rule and each way of accents that one of its phrases has.
        numbers: dict[tuple[int, str | None], int] = {}
        normalized = [
            (
                trie.normalize(each.phrase),
                numbers.setdefault(
                    (each.rule, accents.of(each.phrase) if each.accents else None), len(numbers)
                ),
            )
            for each in wanted
        ]
        self._numbers = list(numbers)
        self._words = words
        self._root = trie.build(normalized)
        runs = [plain_view.first_run(plain_view.of(phrase)) for phrase, _ in normalized]
        # What a phrase of another script may begin with, written in Latin letters.
        written = {
            form for phrase, _ in normalized if not phrase.isascii() for form in plain_view.in_ascii(phrase)
        }
        keys = _keys([*(phrase for phrase, _ in normalized), *written], words=words)
        self._following = list(keys.values())
        self._finder = ahocorasick_rs.AhoCorasick(
            plain_text.REPEATS + list(keys),
            implementation=ahocorasick_rs.Implementation.DFA
            if len(keys) <= _LARGEST_DFA
            else ahocorasick_rs.Implementation.ContiguousNFA,
        )
        # A phrase may begin with what no view tells: itself is looked for, and all that may be written for it.
        odd = "".join(
            sorted({phrase[0] for (phrase, _), run in zip(normalized, runs, strict=True) if not run})
        )
        self._odd = re.compile(f"[{re.escape(odd)}\x80-\U0010ffff]") if odd else None
        self._plain_text = plain_text.PlainText(
            keys, [*filter(None, runs), *map(plain_view.of, written)], odd, words=words
        )

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        plain = self._plain_text.search(text, position, last=last)
        starts, end = plain or (self._starts(text, position, last), len(text))
        found: list[spans.Span] = []
        if len(starts) > spans.LONGEST_STEP:
            end = starts[spans.LONGEST_STEP]
        for start in starts[: spans.LONGEST_STEP]:
            try:
                ends = matcher.walk(self._root, text, start, words=self._words, last=last)
            except trie.NeedMoreInput:
                return found, start
            if ends:
                found += self._spans(text, start, ends)
        return found, end

    def _spans(self, text: str, start: int, ends: dict[int, int]) -> list[spans.Span]:
        by_rule: dict[int, int] = {}
        for number, end in ends.items():
            rule, wanted = self._numbers[number]
            if wanted is None or accents.of(text[start:end]) == wanted:
                by_rule[rule] = max(end, by_rule.get(rule, 0))
        return [spans.Span(start, end, rule) for rule, end in by_rule.items()]

    def _starts(self, text: str, position: int, last: bool) -> list[int]:
        """Every position from `position` on at which a phrase may begin, in order."""
        # The spaces stand for the text before and behind: a word may begin and end there.
        view = f" {plain_view.of(text[position:])} "
        shape = view.translate(plain_view.SHAPE)
        starts, runs = self._marked(view, shape, text[position:])
        if not last:
            # The last run may become anything, as may a letter by itself before a space.
            if shape[-2] != " ":
                runs.append(len(shape) - 2)
            else:
                starts.add(len(shape) - 3)
        end = 0
        for start in sorted(runs):
            if start >= end:
                end = shape.find(" ", start)
                starts.update(range(shape.rfind(" ", 0, start) + 1, end))
        if self._odd:
            starts.update(match.start() - position + 1 for match in self._odd.finditer(text, position))
        found = sorted(start + position - 1 for start in starts if 0 < start < len(view) - 1)
        return [start for start in found if self._may_begin(text, start)]

    def _marked(self, view: str, shape: str, text: str) -> tuple[set[int], list[int]]:
        """The offsets of a view at which a phrase may begin, and offsets of runs in which it may begin anywhere."""
        starts: set[int] = set()
        runs: list[int] = []
        for index, start, end in self._finder.find_matches_as_indexes(view, overlapping=True):
            if index < len(plain_text.REPEATS):
                # Some letters share a view.
                if len({normalization.fold(char) for char in text[start - 1 : end - 1]}) == 1:
                    runs.append(start)
            elif view[start] != " ":
                runs.append(start)
            else:
                following = self._following[index - len(plain_text.REPEATS)]
                # A digit, a sign and what is special may be any letter.
                if not following or shape[end : end + 1] != "a" or view[end] in following:
                    starts.add(start + 1)
        for index, start, _ in _MARKS.find_matches_as_indexes(shape, overlapping=True):
            if index < len(_DISGUISES):
                runs.append(start)
            else:
                starts.add(start + 1)
        return starts, runs

    def _may_begin(self, text: str, start: int) -> bool:
        inside = start and normalization.is_word(text[start]) and normalization.is_word(text[start - 1])
        return not (self._words and inside)


def _keys(phrases: Iterable[str], *, words: bool) -> dict[str, str]:
    """How phrases begin in a view where nothing is disguised.

    Returns:
        By the first run of a phrase: the letters of which one begins its second word; empty if any may.
    """
    following: dict[str, set[str]] = {}
    for phrase in phrases:
        view = plain_view.of(phrase)
        run = plain_view.first_run(view)
        # What is special is always found as a disguise.
        if run and plain_view.SPECIAL not in run:
            second = re.match(" ([a-z])", view[len(run) :])
            # Digits and signs alone show no disguise when there are more beside them.
            bounded = words and any(char.isalpha() for char in run)
            following.setdefault(f" {run} " if bounded else run, set()).add(second[1] if second else "")
    return {key: "" if "" in letters else "".join(sorted(letters)) for key, letters in following.items()}
