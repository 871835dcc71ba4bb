"""The plain view of a text: one character for each code point, for search in C.

A letter and everything that is only that letter in another case, width or accent has one view. So a phrase that
is not disguised is found by a search for plain characters, and a disguise shows as digits, signs and special
characters among letters. `phrases` and `plain_text` search in it.
"""

from __future__ import annotations

from tritonllm.guardrails import normalization

# The view of every code point that has none of its own: it can be several letters, or a look-alike.
SPECIAL = "\x7f"
# What is written `v` or `l` may be read `u` or `i`: one view for both.
_SWAPS = str.maketrans("vl", "ui")


# Most letters are written in one way.
_MOST_FORMS = 16


class _View(dict[int, str]):
    """The view of each code point: folded if one character can say it, else marked."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        folded = normalization.fold(char)
        plain = (
            len(folded) == 1 and folded.isascii() and (folded.isalnum() or folded in normalization.SYMBOLS)
        )
        if normalization.is_superscript(char):
            view = SPECIAL
        elif plain and normalization.letters(char) == normalization.letters(folded):
            view = folded.translate(_SWAPS)
        elif normalization.is_gap(char) or (_is_sign(char) and not normalization.is_mark(char)):
            view = " "
        else:
            view = SPECIAL
        self[code] = view
        return view


def _is_sign(char: str) -> bool:
    """Whether a code point stands for one thing, and that is no letter."""
    readings = normalization.letters(char)
    return [[letter.isalnum() for letter, _ in reading] for reading in readings] == [[False]]


def _shape(char: str) -> str:
    """What kind of character a view has: a letter, a digit or sign, something special, or none of these."""
    if char.isalpha():
        return "a"
    if char.isdigit() or char in normalization.SYMBOLS:
        return "1"
    return "?" if char == SPECIAL else " "


# `str.translate` is fastest if no key is missing and the text is ASCII.
VIEW = _View()
for _code in range(128):
    VIEW[_code]
SHAPE = {code: _shape(chr(code)) for code in range(128)}


def of(text: str) -> str:
    """The view of a text; as long as the text."""
    return text.translate(VIEW)


def first_run(view: str) -> str:
    """The characters of a view up to the first one that separates words."""
    shape = view.translate(SHAPE)
    return view[: f"{shape} ".find(" ")]


def in_ascii(phrase: str) -> list[str]:
    """How ASCII may write the first word of a phrase of Greek or Cyrillic, up to a letter that it can't write."""
    forms = [""]
    for letter in phrase.split(normalization.GAP)[0]:
        signs = [sign for sign, how in normalization.written_as(letter) if how & normalization.FOREIGN]
        if not signs:
            break
        forms = [form + sign for form in forms for sign in signs][:_MOST_FORMS]
    return list(filter(None, forms))
