"""Finds banned phrases and profanity: places where one may begin in C, what it says there letter by letter.

Almost no place of an ordinary text begins a banned phrase. So the text is first reduced to a plain view,
one character for each of its own, in which an Aho-Corasick automaton and a few fixed marks find every place
that may; only those are walked. What the finder passes over can be no match: a test holds it against
walking from everywhere.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator

import ahocorasick_rs

from tritonllm.guardrails import folding, spans, trie

_FOREIGN, _SPECIAL = "\x80", "\x7f"
_SWAPS = str.maketrans("vl", "ui")


class _View(dict[int, str]):
    """The plain view of each code point: folded as far as one character can say, else marked."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char.isascii() and (char.isalnum() or char in folding.SYMBOLS):
            # What is written `v` or `l` may be read `u` or `i`: one view for both.
            view = char.lower().translate(_SWAPS)
        elif folding.is_word(char):
            view = _FOREIGN
        elif folding.is_gap(char) or len(folding.letters(char)) == 1 and not folding.is_unspaced(char):
            view = " "
        else:
            view = _SPECIAL
        self[code] = view
        return view


def _shape(char: str) -> str:
    if char.isalpha():
        return "a"
    if char in folding.SYMBOLS or char.isdigit():
        return "1"
    return char if char in (_FOREIGN, _SPECIAL) else " "


# Tables for `str.translate` are quickest when no key is missing.
_VIEW = _View()
_SHAPE = {code: _shape(chr(code)) for code in range(129)}
for _code in range(128):
    _VIEW[_code]

_RUN = f"a1{_FOREIGN}{_SPECIAL}"
# A disguise shows where a letter meets a digit or sign, or in anything that is not plain.
_DISGUISES = ("a1", "1a", _FOREIGN, _SPECIAL)
# Single letters in a row; the first may be plain.
_SPELLINGS = tuple(f" {first} {second}" for first in "a1" for second in _RUN)


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
        keys = {_key(phrase) for phrase, _ in normalized}
        # A letter three times in a row may be one or two.
        repeats = {letter * trie.SHORTEST_REPEAT for letter in string.ascii_lowercase}
        plain = {f" {key} " if words else key for key in keys if key}
        self._finder = ahocorasick_rs.AhoCorasick(sorted(plain | repeats))
        # A phrase may begin with what has no view of its own.
        odd = "".join(sorted({phrase[0] for phrase, _ in normalized if not _key(phrase)}))
        self._odd = re.compile(f"[{re.escape(odd)}]") if odd else None

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        found: list[spans.Span] = []
        for start in self._starts(text, position, last):
            try:
                ends = trie.walk(self._root, text, start, words=self._words, last=last)
            except trie.Undecided:
                return found, start
            found += [spans.Span(start, end, rule) for rule, end in ends.items()]
        return found, len(text)

    def _starts(self, text: str, position: int, last: bool) -> list[int]:
        """Every place, from a position on, at which a phrase may begin, in order."""
        # What a place means also shows in the characters before it. A space stands for what comes before all.
        offset = max(0, position - trie.LOOKBACK)
        view = " " + text[offset:].translate(_VIEW) + (" " if last else "")
        shape = view.translate(_SHAPE)
        places: set[int] = set()
        for _, start, end in self._finder.find_matches_as_indexes(view, overlapping=True):
            if view[start] == " ":
                places.add(start + 1)
            else:
                places.update(range(_run_start(shape, start), end))
        run = 0
        for mark in sorted(mark for needle in _DISGUISES for mark in _all(needle, shape)):
            if mark >= run:
                run = _run_end(shape, mark)
                places.update(range(_run_start(shape, mark), run))
        if self._words:
            for needle in _SPELLINGS:
                places.update(mark + 1 for mark in _all(needle, shape) if shape[mark + 4 : mark + 5] != "a")
        if not last:
            # What the end of the text is part of may yet become anything.
            places.update(range(_run_start(shape, len(shape)), len(shape)))
            if shape[-1] in " 1" and shape[-2:-1] in _RUN:
                places.add(len(shape) - 2)
        inside = f"a{_FOREIGN}" if self._words else ""
        found = {place - 1 + offset for place in places if shape[place - 1] not in inside}
        if self._odd:
            found.update(match.start() for match in self._odd.finditer(text, position))
        return sorted(place for place in found if position <= place < len(text))


def _all(needle: str, shape: str) -> Iterator[int]:
    place = shape.find(needle)
    while place >= 0:
        yield place
        place = shape.find(needle, place + 1)


def _run_start(shape: str, place: int) -> int:
    while shape[place - 1] in _RUN:
        place -= 1
    return place


def _run_end(shape: str, place: int) -> int:
    while place < len(shape) and shape[place] in _RUN:
        place += 1
    return place


def _key(phrase: str) -> str:
    """How a phrase begins in a view where nothing is disguised, as far as it is one run; may be empty."""
    view = phrase.translate(_VIEW)
    return view[: _run_end(view.translate(_SHAPE), 0)]
