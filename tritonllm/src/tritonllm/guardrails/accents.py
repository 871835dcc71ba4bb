"""The accents of a text, by which a rule with `accents: Match` tells words apart that are the same without."""

from __future__ import annotations

import itertools

from tritonllm.guardrails import normalization


def of(text: str) -> str:
    """The letters of a text that have accents, each with its own; a repeated letter counts once.

    A text in which a phrase is found has the accents of the phrase if and only if both have the same ones here.
    """
    letters: list[tuple[str, str]] = []
    for char in text:
        base, marks = normalization.fold(char), normalization.accents(char)
        if base:
            letters.append((base, marks))
        elif marks and letters:
            letters[-1] = (letters[-1][0], letters[-1][1] + marks)
    distinct = (letter for letter, _ in itertools.groupby(letters))
    return "|".join(base + marks for base, marks in distinct if marks)
