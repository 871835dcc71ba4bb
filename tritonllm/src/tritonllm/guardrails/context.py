"""The text before a position, as far as it decides what is meant there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from tritonllm.guardrails import normalization

# How far back a match looks: past everything invisible, to the letters before.
LOOKBACK = 80

# Beside the bits of `normalization`: that an earlier word of the phrase was meant.
PLAUSIBLE_BEFORE = 8

# A digit or sign in a picture of a key.
_KEYCAP = re.compile("[0-9#*]\ufe0f?\u20e3$")


def is_plausible_word(how: int, text: str, start: int) -> bool:
    """Whether letters matched this way make a word: not digits and signs alone, nor another script's word."""
    kinds = how & ~PLAUSIBLE_BEFORE
    if kinds & normalization.EXACT or not kinds:
        return True
    if kinds & normalization.LEET:
        return False
    if how != kinds:
        return True
    latin = _is_after_latin(text, start)
    return latin is not None and latin != bool(kinds & normalization.FOREIGN)


def before(text: str, start: int) -> str | None:
    """The last visible code point before a position."""
    if _KEYCAP.search(text, max(0, start - 3), start):
        return "\u20e3"
    return next(_seen_before(text, start), None)


def _seen_before(text: str, start: int) -> Iterator[str]:
    """The visible code points before a position, the last one first."""
    for index in range(start - 1, max(-1, start - 1 - LOOKBACK), -1):
        if not normalization.is_ignorable(text[index]):
            yield text[index]


def _is_after_latin(text: str, start: int) -> bool | None:
    """Whether the last letter before a position is Latin: then a word of look-alikes is read as Latin, too."""
    for char in _seen_before(text, start):
        if normalization.is_word(char) and not char.isdigit():
            return normalization.is_latin(char)
    return None


def repeats(text: str, start: int, times: int) -> bool:
    """Whether the letter at a position is the same as the `times` visible ones before it."""
    letter = normalization.fold(text[start])
    said = itertools.islice(_seen_before(text, start), times)
    return [normalization.fold(char) for char in said] == [letter] * times
