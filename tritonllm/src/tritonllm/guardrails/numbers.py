"""Digits that a reader takes for a number, not for letters: `45s`, `16GB`, `$45k`, `0x455`, `A55`.

Asked by the walks of `matcher` when a digit could be leet.
"""

from __future__ import annotations

import re

from tritonllm.guardrails import normalization, trie

# How far a word is looked at on each side. Longer ones are identifiers; their digits may be letters.
_REACH = 32

# One run of digits and one of letters. What has more runs is leet, such as `b00b5`, or an identifier.
_AMOUNT = re.compile(r"([1-9]\d*)([^\W\d_]+)")
_NAME = re.compile(r"([^\W\d_]+)([1-9]\d*)")
# `1h45m`, `5h17`, `1e55`, `45$`.
_OTHER = re.compile(r"0x[\da-f]+|(?:\d+[dhms]|\d+min)+|\d+[hm][0-5]\d|\d+e[1-9]\d*|\d+\$?")
# Amounts in formulas and tables, such as `T+45s`, `2*45s`, `45s|55s`, `@45s`. Of one digit, they are leet, as in `7i+5`.
_FORMULA = re.compile(r"(?:[@!]|[^\W\d_]\+)?(?:\d\d+[^\W\d_]{1,2}|\d+(?=[+*|]))(?:[+*|]\d+[^\W\d_]{0,2})*\+?")
_UNITS = re.compile(
    "ms|us|ns|min|hrs?|yr|[kmgtp]i?b|bit|mg|kg|m?l|[mck]m|ft|in|lb|oz|[kmg]?hz|k?wh?|mah|px|pt|r?em|dpi|fps|"
    "st|nd|rd|th|[ap]m|[a-z]|[мкс]м|кг|мг|г|[мкгт]б|мин|сек|час|руб|шт|тыс|мл|го|ом|ый|ой"
)


def is_number(text: str, index: int, *, last: bool) -> bool:
    """Whether the digit at a position belongs to a number, together with the unit or name beside it.

    Raises:
        trie.NeedMoreInput: the word may go on.
    """
    start = index
    while start > max(0, index - _REACH) and _belongs(text[start - 1]):
        start -= 1
    end, limit = index + 1, index + _REACH
    while end < min(len(text), limit) and _belongs(text[end]):
        end += 1
    if end == len(text) and end < limit and not last:
        raise trie.NeedMoreInput
    # Emphasis, the bars of a table and an exclamation stand beside a number; any other sign makes it leet.
    word = "".join(map(normalization.fold, text[start:end])).strip("*|").rstrip("!").lstrip("$+")
    if amount := _AMOUNT.fullmatch(word):
        return len(amount[1]) >= len(amount[2]) or _UNITS.fullmatch(amount[2]) is not None
    if name := _NAME.fullmatch(word):
        return len(name[1]) == 1 or len(name[2]) > len(name[1])
    return any(form.fullmatch(word) for form in (_OTHER, _FORMULA))


def _belongs(char: str) -> bool:
    folded = normalization.fold(char)
    return not normalization.is_superscript(char) and (folded.isalnum() or folded in normalization.SYMBOLS)
