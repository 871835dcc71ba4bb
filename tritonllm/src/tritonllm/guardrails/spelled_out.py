"""Finds phrases spelled letter by letter: `f u c k`, `f.u.c.k`; the second way in which `matcher` walks."""

from __future__ import annotations

import unicodedata

from tritonllm.guardrails import context, normalization, trie

# `g o` is no word yet.
_SHORTEST = 3
# Beside dashes, connectors and pictures. Apostrophes are not here, for `'s`.
_BETWEEN = frozenset(" ./\\,:;=+|&*~\u00b7\u2022\u2027\u2219\u22c5\u30fb\u2212")

_State = tuple[trie.Node, int]
"""A node, and how its letters were matched (bits of `normalization`)."""


def walk(root: trie.Node, text: str, start: int, last: bool) -> dict[int, int]:
    """See `matcher.walk`; at word boundaries always."""
    if not _may_begin(text, start):
        return {}
    states = {(root, 0)}
    count, digits, index, size = 0, 0, start, len(text)
    while True:
        if index >= size:
            if last:
                return {}
            raise trie.NeedMoreInput
        states = _step(states, text[index])
        digits += text[index].isdigit()
        count += 1
        index += 1
        # If digits outnumber letters, they are numbers in a row.
        numbers = 2 * digits > count
        ends = {
            rule
            for node, how in states
            if context.is_plausible_word(how, text, start) and not (numbers and how & normalization.LEET)
            for rule in node.ends
        }
        if ends and count >= _SHORTEST:
            if index + 2 >= size and not last and (index >= size or _is_between(text[index])):
                raise trie.NeedMoreInput
            if not _is_letter(text, index) and not _goes_on(text, index):
                return dict.fromkeys(ends, index)
        if not states:
            return {}
        if index + 1 >= size and not last:
            raise trie.NeedMoreInput
        if index + 1 >= size or not _is_between(text[index]) or not _may_spell(text[index + 1]):
            return {}
        index += 1


def _step(states: set[_State], char: str) -> set[_State]:
    # A letter such as `ß` stands for several, one after the other.
    for reading in normalization.letters(char):
        states = {(child, how | kind) for node, how in states for child, kind in node.follow(reading)}
    behind = {(word, how) for node, how in states if (word := node.next_word())}
    return states | behind if normalization.letters(char) else set()


def _goes_on(text: str, index: int) -> bool:
    """Whether a spelling goes on with another single letter at `index`."""
    return (
        index < len(text)
        and _is_between(text[index])
        and _is_letter(text, index + 1)
        and not _is_letter(text, index + 2)
    )


def _is_between(char: str) -> bool:
    """Whether a code point may stand between the letters of a spelled word."""
    return (
        normalization.fold(char) in _BETWEEN
        or unicodedata.category(char) in ("Pd", "Pc")
        or normalization.is_pictograph(char)
    )


def _may_spell(char: str) -> bool:
    return normalization.is_word(char) or char in normalization.SYMBOLS


def _is_letter(text: str, index: int) -> bool:
    return index < len(text) and normalization.is_word(text[index])


def _may_begin(text: str, start: int) -> bool:
    """Whether no spelling is under way; the words `I` and `a` before one are none."""
    if not _may_spell(text[start]) or (start + 1 < len(text) and not _is_between(text[start + 1])):
        return False
    if start < 2 or not _is_between(text[start - 1]) or not normalization.is_word(text[start - 2]):
        return True
    single = start < 3 or not normalization.is_word(text[start - 3])
    return not single or text[start - 2] in "iIaA"
