"""What a character may stand for: the tables by which a disguised word is still that word.

Folding goes code point by code point, never over a whole text, so that every position keeps its meaning
and a text may be cut anywhere. The look-alikes are Unicode's (`confusables.txt`, as data in the package
confusable_homoglyphs), the decompositions those of `unicodedata`.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import unicodedata

# How a character can stand for a letter: by being it, or written for it. What is no letter stands for itself
# with none of these. A word needs at least one letter that is itself.
EXACT, LEET, LOOKALIKE = 1, 2, 4
FOREIGN = 16
"""A Latin letter that is written for one of Greek or Cyrillic."""

Letter = tuple[tuple[str, int], ...]
"""The letters that one folded character may stand for, each with how."""

GAP = " "
"""What separates the words of a phrase, in a folded phrase."""

# Between the words of a phrase: dashes, quotes and connectors by their categories, and apostrophes, primes, low and CJK
# quotes, middle dots and bullets. A full stop or comma ends a phrase, so they are not here.
_GAP_CATEGORIES = frozenset(("Pd", "Pi", "Pf", "Pc"))
_GAPS = frozenset(
    "*~`'\"\u00b4\u02b9\u02ba\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ca\u02cb\u02cd\u02d7\u02ee\u055a\ua78b\ua78c\u2032\u2033\u2034"
    "\u201a\u201e\u2e42\u300c\u300d\u300e\u300f\u301d\u301e\u301f\u2212\u2043\u00b7\u2022\u2027\u2219\u22c5\u2e31\u30fb"
)
# Stand behind a name and are no part of it, though some decompose into letters.
_TRADEMARKS = frozenset(
    "\u00a9\u00ae\u2117\u2120\u2122\u2020\u2021\u00b6\u00a7\u203b\u204e\u2051\u2042"
    "\U0001f12b\U0001f12c\U0001f16a\U0001f16b\U0001f16c"
)
# Letters by category only: they are seen as a gap.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
# The stroke that makes an Arabic word longer.
_KASHIDA = "\u0640"
# What Persian and Urdu keyboards write for letters of Arabic, and an ending without its points.
_ARABIC = str.maketrans("\u0649\u06cc\u06a9\u06c1\u06be", "\u064a\u064a\u0643\u0647\u0647")
# Letters in ornament that Unicode does not decompose, by their names.
_ORNAMENT = re.compile(
    "(?:NEGATIVE CIRCLED LATIN CAPITAL|(?:CROSSED )?NEGATIVE SQUARED LATIN CAPITAL|PARENTHESIZED LATIN (?:SMALL|CAPITAL)"
    "|LATIN) LETTER (?:SMALL CAPITAL )?(?P<letter>[A-Z])"
    "|LATIN (?:SMALL|CAPITAL) LETTER (?:DOTLESS )?(?P<base>[A-Z])(?: WITH (?P<mark>.+))?"
)
_SUPERSCRIPTS = frozenset("\u00b9\u00b2\u00b3\u2070") | set(
    map(chr, [*range(0x2074, 0x207F), *range(0x2080, 0x208F)])
)

# Symbols, digits and letters that are written for other letters. `*` stands for any vowel, and `v`.
_LEET = {
    "@": "ao", "4": "a", "3": "e", "1": "il", "!": "i", "|": "il", "0": "o", "$": "s", "5": "s", "7": "t",
    "+": "t", "8": "b", "9": "g", "*": "aeiouyv", "v": "u", "u": "v", "l": "i",
}  # fmt: skip
SYMBOLS = "".join(symbol for symbol in _LEET if not symbol.isalpha())

# Letters of Latin that are two joined, and have no decomposition.
_JOINED = str.maketrans({"œ": "oe", "æ": "ae"})

# What letters and signs are taken for beside Unicode's list: signs of currencies, and what `fancy text` is made of.
_SEEN_AS = {
    "€": "e", "£": "l", "¥": "y", "¢": "c", "₳": "a", "฿": "b", "₵": "c", "₣": "f", "₲": "g", "₭": "k", "₥": "m", "₦": "n",
    "₱": "p", "₴": "s", "₮": "t", "₩": "w", "∂": "d", "є": "e", "ɛ": "e", "ε": "e", "ʄ": "f", "ђ": "h", "נ": "j", "ӄ": "k",
    "ҟ": "k", "ʍ": "m", "и": "n", "η": "n", "п": "n", "я": "r", "ƚ": "t", "μ": "u", "ʊ": "u", "ω": "w", "ш": "w", "ж": "x",
    "ӽ": "x", "ӿ": "x", "℮": "e",
}  # fmt: skip

# Scripts that put no space between words, where a word has no boundary to ask for.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0xA4CF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


# Marks that a word has or lacks without becoming another one: accents, points of Arabic and Hebrew, variation selectors.
# All others, such as the vowel signs of Thai and Hindi, are letters to a reader.
_ACCENTS = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x05C7),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x2DE0, 0x2DFF),
    (0xA66F, 0xA67D),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF),
)


# The package's own functions, which nothing here needs, would import an HTTP client for its updates.
_CONFUSABLE: dict[str, list[dict[str, str]]] = json.loads(
    (importlib.resources.files("confusable_homoglyphs") / "confusables.json").read_bytes()
)


@functools.cache
def letters(char: str) -> tuple[Letter, ...]:
    """What a code point stands for: a sequence, as `ß` stands for two letters; empty for what can't be seen."""
    folded = fold(char)
    if is_superscript(char):
        return (((folded, 0),),)
    # What folds to one character may look like another one: `ϲ` is a sigma, and looks like a `c`.
    seen_as = char if len(folded) == 1 else ""
    return tuple(_alternatives(part, seen_as) for part in folded if not part.isspace())


@functools.cache
def fold(char: str) -> str:
    """A code point without case, width, accents and ornament; empty when nothing is left to see."""
    if char in _TRADEMARKS or char == _KASHIDA:
        return ""
    if char in _BLANKS:
        return " "
    letter = _without_ornament(char)
    if letter:
        return letter
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    seen = "".join(part for part in plain if not _invisible(part))
    return "".join(_without_ornament(part) or part for part in seen).translate(_ARABIC).translate(_JOINED)


def _without_ornament(char: str) -> str:
    """The Latin letter inside an ornament, or under a stroke or hook; empty if there is none."""
    if char.isascii():
        return ""
    found = _ORNAMENT.fullmatch(unicodedata.name(char, ""))
    return (found["letter"] or found["base"]).lower() if found else ""


@functools.cache
def accents(char: str) -> str:
    """What a letter has beside its base, and another word may lack: `é` has an acute, `ł` a stroke.

    Of a mark that stands by itself, the mark. Overlays and enclosing marks are ornament.
    """
    found = [
        part
        for part in unicodedata.normalize("NFD", char)
        if unicodedata.combining(part) > 1 and _invisible(part)
    ]
    named = _ORNAMENT.fullmatch(unicodedata.name(char, "")) if not found else None
    return "".join(found) or (named["mark"] if named and named["mark"] else "")


@functools.cache
def is_gap(char: str) -> bool:
    """Whether a code point may stand between two words of a phrase."""
    folded = fold(char)
    return (
        char.isspace()
        or folded.isspace()
        or char in _GAPS
        or folded in _GAPS
        or unicodedata.category(char) in _GAP_CATEGORIES
        or char in _TRADEMARKS
        or is_superscript(char)
        or is_pictograph(char)
    )


@functools.cache
def is_pictograph(char: str) -> bool:
    """Whether a code point is a picture, such as an emoji, and carries no letter."""
    if char.isascii() or char in _TRADEMARKS:
        return False
    picture = unicodedata.category(char) == "So" or "\U0001f3fb" <= char <= "\U0001f3ff"
    return picture and char not in _SEEN_AS and not any(part.isalnum() for part in fold(char))


def is_superscript(char: str) -> bool:
    """Whether a code point is a digit that stands for a footnote or power: beside a word, never in it."""
    return char in _SUPERSCRIPTS


@functools.cache
def is_word(char: str) -> bool:
    """Whether a code point belongs to a word, so that no word starts or ends beside it."""
    if is_gap(char):
        return False
    return any((part.isalnum() or is_mark(part)) and not is_unspaced(part) for part in fold(char))


def is_letter(char: str) -> bool:
    """Whether a code point is a letter, a mark or a digit: what word characters of patterns are, beside `_`."""
    return unicodedata.category(char)[0] in "LMN"


@functools.cache
def is_mark(char: str) -> bool:
    """Whether a code point is a part of the letter before it, and not just an accent: a vowel sign, a voicing mark.

    The vowel `am` of Thai and Lao, and voicing marks of half width, are letters by category, and begin with a mark.
    """
    mark = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.category(mark)[0] == "M" and not _invisible(mark)


@functools.cache
def has_accents(char: str) -> bool:
    """Whether a letter keeps its meaning under any mark, as those of Latin, Greek and Cyrillic do."""
    return char.isascii() or unicodedata.name(char, "").startswith(("LATIN", "GREEK", "CYRILLIC"))


@functools.cache
def is_unspaced(char: str) -> bool:
    """Whether a code point is of a script without spaces between words."""
    return any(first <= ord(char) <= last for first, last in _UNSPACED)


@functools.cache
def is_ignorable(char: str) -> bool:
    """Whether a code point can be put anywhere without being seen: a combining mark, a zero-width character."""
    return not is_gap(char) and not fold(char)


def is_latin(char: str) -> bool:
    """Whether a code point is a plain Latin letter."""
    return char.isascii() and char.isalpha()


def _invisible(char: str) -> bool:
    category = unicodedata.category(char)
    if category in ("Mn", "Me"):
        return any(first <= ord(char) <= last for first, last in _ACCENTS)
    return category in ("Cf", "Cn", "Cc") and not char.isspace()


def _alternatives(char: str, seen_as: str) -> Letter:
    found = {char: EXACT if char.isalpha() else 0}
    for letter in _LEET.get(char, ""):
        found.setdefault(letter, LEET)
    for letter in _lookalikes(char) + _lookalikes(seen_as):
        found.setdefault(letter, LOOKALIKE)
    return tuple(found.items())


def _lookalikes(char: str) -> str:
    """The plain letters and digits that a character can be taken for."""
    if char.isascii():
        return ""
    # Small capitals, and look-alikes in upper case, are listed by the upper-case letter only.
    listed = [other["c"].casefold() for each in (char, char.upper()) for other in _CONFUSABLE.get(each, ())]
    listed += _SEEN_AS.get(char, "")
    return "".join(letter for letter in listed if len(letter) == 1 and letter.isascii() and letter.isalnum())


# Digits and signs that are written for letters of Cyrillic and Greek.
_FOREIGN_LEET = {
    "з": "3", "э": "3", "ч": "4", "б": "6", "о": "0", "ο": "0", "σ": "0", "а": "@", "α": "@", "ε": "3", "т": "7", "я": "9",
}  # fmt: skip
_FOREIGN_VOWELS = "аеиоуыэюяіїєαειουηω"


@functools.cache
def written_as(letter: str) -> Letter:
    """What ASCII writes for a letter of Greek or Cyrillic, each with how."""
    if letter.isascii() or not unicodedata.name(letter, "").startswith(("GREEK", "CYRILLIC")):
        return ()
    found = {seen: FOREIGN if seen.isalpha() else LEET for seen in _lookalikes(letter)}
    for sign in _FOREIGN_LEET.get(letter, ""):
        found.setdefault(sign, LEET)
    if letter in _FOREIGN_VOWELS:
        found["*"] = LEET
    return tuple(found.items())
