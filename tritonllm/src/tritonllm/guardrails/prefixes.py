"""A regular expression's prefixes: whether what has come of a text could still become a match.

RE2 finds matches but cannot say that one is under way, which is what a stream must hold back. So from each
pattern a second one is made that matches every text with which a match may begin. It may match more than
that, never less; where none can be made, the caller holds back a whole window.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

try:
    from re import _parser  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # It is private to the standard library, so may go.
    _parser = None

# What Python's parser reads otherwise than RE2 does: POSIX classes, and a repetition without a lower bound.
_READ_OTHERWISE = re.compile(r"\[:\^?\w+:\]|\{,|\\[0-9]")
_LONGEST = 20_000


class _Unknown(Exception):
    pass


def derive(regex: str) -> str | None:
    """A pattern, in RE2's syntax, of all that a match of `regex` may begin with.

    Args:
        regex: a pattern that RE2 accepts.

    Returns:
        The pattern, which also matches the empty text; None where it can't be made.
    """
    if _parser is None or _READ_OTHERWISE.search(regex):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = _parser.parse(regex)
        flags = "(?is)" if parsed.state.flags & re.IGNORECASE else "(?s)"
        found = flags + _prefix(list(parsed))
    except (_Unknown, re.error, Warning, RecursionError, OverflowError):
        return None
    return found


def _prefix(items: list[Any]) -> str:
    """Every beginning of a sequence, the empty one and the whole among them."""
    found = ""
    for item in reversed(items):
        begun, whole = _item_prefix(item), _whole([item])
        found = f"(?:{begun}|{whole}{found})" if found else f"(?:{begun}|{whole})"
        if len(found) > _LONGEST:
            raise _Unknown
    return found or "(?:)"


def _item_prefix(item: Any) -> str:
    name, value = str(item[0]), item[1]
    if name == "SUBPATTERN":
        return _prefix(_subpattern(value))
    if name == "BRANCH":
        return "(?:" + "|".join(_prefix(list(branch)) for branch in value[1]) + ")"
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        inner = list(value[2])
        most = int(value[1])
        count = "*" if most > 1000 else f"{{0,{most}}}"
        return f"(?:{_whole(inner)}){count}{_prefix(inner)}"
    return "(?:)"


def _whole(items: list[Any]) -> str:
    found = "".join(_item(item) for item in items)
    if len(found) > _LONGEST:
        raise _Unknown
    return found


def _item(item: Any) -> str:
    name, value = str(item[0]), item[1]
    if name == "LITERAL":
        return _char(value)
    if name == "NOT_LITERAL":
        return f"[^{_char(value)}]"
    if name == "ANY":
        return "."
    if name == "AT":
        return ""
    if name == "IN":
        return _set(value)
    if name == "SUBPATTERN":
        return f"(?:{_whole(_subpattern(value))})"
    if name == "BRANCH":
        return "(?:" + "|".join(_whole(list(branch)) for branch in value[1]) + ")"
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        low, high, inner = int(value[0]), int(value[1]), _whole(list(value[2]))
        count = f"{{{low},{high}}}" if high <= 1000 else f"{{{low},}}"
        return f"(?:{inner}){count}"
    raise _Unknown


def _subpattern(value: Any) -> list[Any]:
    _, flags_on, flags_off, items = value
    # Case that matters in one part only can't be said of a set that excludes letters.
    if flags_on & re.IGNORECASE or flags_off & re.IGNORECASE:
        raise _Unknown
    return list(items)


def _set(members: list[Any]) -> str:
    found = ""
    for member in members:
        name, value = str(member[0]), member[1]
        if name == "NEGATE":
            found += "^"
        elif name == "LITERAL":
            found += _char(value)
        elif name == "RANGE":
            found += f"{_char(value[0])}-{_char(value[1])}"
        elif name == "CATEGORY" and str(value) in _CATEGORIES:
            found += _CATEGORIES[str(value)]
        else:
            raise _Unknown
    return f"[{found}]"


def _char(code: int) -> str:
    return rf"\x{{{code:X}}}"


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
