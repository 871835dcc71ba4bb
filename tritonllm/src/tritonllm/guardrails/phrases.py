"""Finds banned phrases and profanity: places where one may begin in C, what it says there letter by letter.

Almost no place of an ordinary text begins a banned phrase. So the text is first reduced to a plain view,
one character for each of its own, in which an Aho-Corasick automaton and a few fixed marks find every place
that may; only those are walked. What the finder passes over can be no match: a test holds it against
walking from everywhere.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

import ahocorasick_rs

from tritonllm.guardrails import matcher, normalization, spans, trie

_SPECIAL = "\x7f"
# What is written `v` or `l` may be read `u` or `i`: one view for both.
_SWAPS = str.maketrans("vl", "ui")


class _View(dict[int, str]):
    """The plain view of each code point: folded where one character can say it, else marked."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        folded = normalization.fold(char)
        plain = (
            len(folded) == 1 and folded.isascii() and (folded.isalnum() or folded in normalization.SYMBOLS)
        )
        if plain and normalization.letters(char) == normalization.letters(folded):
            view = folded.translate(_SWAPS)
        elif normalization.is_gap(char) or _is_sign(char):
            view = " "
        else:
            view = _SPECIAL
        self[code] = view
        return view


def _is_sign(char: str) -> bool:
    """Whether a code point stands for one thing, and that is no letter."""
    return [[letter.isalnum() for letter, _ in reading] for reading in normalization.letters(char)] == [
        [False]
    ]


def _shape(char: str) -> str:
    """What kind of character a view has: a letter, a digit or sign, something special, or none of these."""
    if char.isalpha():
        return "a"
    if char.isdigit() or char in normalization.SYMBOLS:
        return "1"
    return "?" if char == _SPECIAL else " "


# `str.translate` is quickest where no key is missing and all is ASCII.
_VIEW = _View()
for _code in range(128):
    _VIEW[_code]
_SHAPE = {code: _shape(chr(code)) for code in range(128)}
_NOT_ASCII = re.compile("[^\x00-\x7f]+")

# A disguise shows where a letter meets a digit or sign, or in anything special.
_DISGUISES = ["a1", "1a", "?"]
# A letter by itself, and what may be the next one. Beside a sign, or when special, the first is a disguise
# already, unless it is a digit or sign too.
_SPELLINGS = [
    f"{first} {second}{behind}" for first in (" a", " 1", "11") for second in "a1?" for behind in " 1"
]
_MARKS = ahocorasick_rs.AhoCorasick(_DISGUISES + _SPELLINGS)

# A letter three times in a row may be one or two.
_REPEATS = [letter * matcher.SHORTEST_REPEAT for letter in string.ascii_lowercase]


class Phrases:
    """All phrases of one direction of a policy that share a way of matching.

    Args:
        phrases: each with the number of its rule.
        words: whether they are matched at word boundaries only.
    """

    def __init__(self, phrases: Iterable[tuple[str, int]], *, words: bool) -> None:
        normalized = [(trie.normalize(phrase), rule) for phrase, rule in phrases]
        self._words = words
        self._root = trie.build(normalized)
        keys = _keys((phrase for phrase, _ in normalized), words=words)
        self._following = list(keys.values())
        self._finder = ahocorasick_rs.AhoCorasick(
            _REPEATS + list(keys), implementation=ahocorasick_rs.Implementation.DFA
        )
        # A phrase may begin with what no view tells: itself is looked for, and all that may be written for it.
        odd = "".join(sorted({phrase[0] for phrase, _ in normalized if not _first_run(_view(phrase))}))
        self._odd = re.compile(f"[{re.escape(odd)}\x80-\U0010ffff]") if odd else None

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        found: list[spans.Span] = []
        for start in self._starts(text, position, last):
            try:
                ends = matcher.walk(self._root, text, start, words=self._words, last=last)
            except trie.NeedMoreInput:
                return found, start
            found += [spans.Span(start, end, rule) for rule, end in ends.items()]
        return found, len(text)

    def _starts(self, text: str, position: int, last: bool) -> list[int]:
        """Every place, from a position on, at which a phrase may begin, in order."""
        # The spaces stand for what is before and behind, where a word may begin and end.
        view = f" {_view(text[position:])} "
        shape = view.translate(_SHAPE)
        places, runs = self._marked(view, shape, text[position:])
        if not last:
            # What the text ends in may yet become anything, as may a letter by itself before a space.
            if shape[-2] != " ":
                runs.append(len(shape) - 2)
            else:
                places.add(len(shape) - 3)
        end = 0
        for place in sorted(runs):
            if place >= end:
                end = shape.find(" ", place)
                places.update(range(shape.rfind(" ", 0, place) + 1, end))
        if self._odd:
            places.update(match.start() - position + 1 for match in self._odd.finditer(text, position))
        found = sorted(place + position - 1 for place in places if 0 < place < len(view) - 1)
        return [place for place in found if self._may_begin(text, place)]

    def _marked(self, view: str, shape: str, text: str) -> tuple[set[int], list[int]]:
        """The places of a view at which a phrase may begin, and those in runs of which any place may be one."""
        places: set[int] = set()
        runs: list[int] = []
        for index, start, end in self._finder.find_matches_as_indexes(view, overlapping=True):
            if index < len(_REPEATS):
                # Some letters share a view.
                if len({normalization.fold(char) for char in text[start - 1 : end - 1]}) == 1:
                    runs.append(start)
            elif view[start] != " ":
                runs.append(start)
            else:
                following = self._following[index - len(_REPEATS)]
                # A digit, a sign and what is special may be any letter.
                if not following or shape[end : end + 1] != "a" or view[end] in following:
                    places.add(start + 1)
        for index, start, _ in _MARKS.find_matches_as_indexes(shape, overlapping=True):
            if index < len(_DISGUISES):
                runs.append(start)
            else:
                places.add(start + 1)
        return places, runs

    def _may_begin(self, text: str, place: int) -> bool:
        inside = place and normalization.is_word(text[place]) and normalization.is_word(text[place - 1])
        return not (self._words and inside)


def _view(text: str) -> str:
    if not text.isascii():
        text = _NOT_ASCII.sub(lambda match: match[0].translate(_VIEW), text)
    return text.translate(_VIEW)


def _keys(phrases: Iterable[str], *, words: bool) -> dict[str, str]:
    """How phrases begin in a view where nothing is disguised.

    Returns:
        By the first run of a phrase: the letters of which one begins its second word; empty if any may.
    """
    following: dict[str, set[str]] = {}
    for phrase in phrases:
        view = _view(phrase)
        run = _first_run(view)
        # What is special is always found as a disguise.
        if run and _SPECIAL not in run:
            second = re.match(" ([a-z])", view[len(run) :])
            # Digits and signs alone show no disguise when there are more beside them.
            bounded = words and any(char.isalpha() for char in run)
            following.setdefault(f" {run} " if bounded else run, set()).add(second[1] if second else "")
    return {key: "" if "" in letters else "".join(sorted(letters)) for key, letters in following.items()}


def _first_run(view: str) -> str:
    shape = view.translate(_SHAPE)
    return view[: f"{shape} ".find(" ")]
