"""Regular expressions for matches in progress: whether a text that ends here could go on to become a match.

RE2 finds matches but cannot say that one is in progress, which is what a stream must hold back. So from each
pattern a second one is derived that matches every prefix of its matches. It may match more than that, never less.
Patterns are read with the standard library's parser; what RE2 alone knows is replaced for it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

try:
    from re import _parser  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # It is private to the standard library and may disappear.
    _parser = None

_LARGEST = 20_000
# What `\w`, `\d` and `\s` are in all scripts, as members of a set. None of them is `\s` itself, which `_set` can't write.
WORD = r"\p{L}\p{M}\p{N}_"
_SPACE = r"\t-\r\x{85}\p{Z}"
_SETS = {
    r"\w": WORD, r"\d": r"\p{Nd}", r"\s": _SPACE, r"\W": rf"[^{WORD}]", r"\D": r"\P{Nd}", r"\S": rf"[^{_SPACE}]",
}  # fmt: skip
# POSIX classes that RE2 reads as ASCII. Those of ASCII by definition, such as `[:xdigit:]`, stay.
_POSIX_SETS = {
    "[:word:]": WORD, "[:alpha:]": r"\p{L}\p{M}", "[:alnum:]": r"\p{L}\p{M}\p{N}", "[:digit:]": r"\p{Nd}", "[:space:]": _SPACE,
    "[:upper:]": r"\p{Lu}", "[:lower:]": r"\p{Ll}", "[:punct:]": r"\p{P}\p{S}",
}  # fmt: skip
# Sets that negate a negated class, as they are written for letters.
_LETTERS = {
    r"[^\W\d_]": r"[\p{L}\p{M}\p{Nl}\p{No}]", r"[^\W\d]": r"[\p{L}\p{M}\p{Nl}\p{No}_]", r"[^\W_]": r"[\p{L}\p{M}\p{N}]",
    r"[\s\S]": r"(?s:.)", r"[\S\s]": r"(?s:.)", r"[\w\W]": r"(?s:.)", r"[\W\w]": r"(?s:.)", r"[\d\D]": r"(?s:.)", r"[\D\d]": r"(?s:.)",
}  # fmt: skip
# The parser has a large number for no limit.
UNLIMITED = 1 << 30
_UNICODE_CLASS = re.compile(r"\\[pP](?:\{\^?\w+\}|\w)")
_POSIX_CLASS = re.compile(r"\[:\^?\w+:\]")
_NUMBER = re.compile(r"\\x\{([0-9A-Fa-f]{1,5})\}")
_NAMED_GROUP = re.compile(r"\(\?<(?=\w)")
# Stand for RE2's classes while Python's parser reads a pattern.
STAND_INS = 0xF0000


class Unknown(Exception):
    """A pattern that can't be read, or not be written in the form wanted."""


def derive(regex: str) -> str | None:
    """A pattern, in RE2's syntax, of everything that a match of `regex` may begin with.

    Args:
        regex: a pattern that RE2 accepts.

    Returns:
        The pattern, which also matches the empty text; None if it can't be derived.
    """
    try:
        parsed, classes = parse(regex)
        found = _prefix(list(parsed))
    except (Unknown, RecursionError):
        return None
    return ("(?is)" if parsed.state.flags & re.IGNORECASE else "(?s)") + with_classes(found, classes)


def with_classes(regex: str, classes: list[str]) -> str:
    """A pattern with the classes for which its stand-ins stand."""
    for number, known in enumerate(classes):
        regex = regex.replace(_char(STAND_INS + number), known)
    return regex


def in_all_scripts(regex: str) -> str:
    r"""A pattern in which `\w`, `\d`, `\s` and `[:alpha:]` are those of all scripts; in RE2 they are ASCII only.

    Args:
        regex: a pattern that RE2 accepts.

    Raises:
        Unknown: it can't be written.
    """
    found: list[str] = []
    index, in_set = 0, False
    while index < len(regex):
        escape = regex[index : index + 2]
        if escape in _SETS and (escape.islower() or not in_set):
            found.append(
                _SETS[escape] if in_set else f"[{_SETS[escape]}]" if escape.islower() else _SETS[escape]
            )
        elif escape in _SETS:
            raise Unknown
        elif escape == r"\Q":
            quoted = regex[index:].partition(r"\E")
            found.append(quoted[0] + quoted[1])
            index += len(found[-1]) - 2
        elif escape[0] == "\\":
            found.append(escape)
        else:
            if not in_set and escape[0] == "[":
                letters = next((known for known in _LETTERS if regex.startswith(known, index)), None)
                if letters:
                    found.append(_LETTERS[letters])
                    index += len(letters)
                    continue
                opening = re.match(r"\[\^?\]?", regex[index:])
                assert opening is not None
                in_set = True
                found.append(opening[0])
                index += len(opening[0])
                continue
            if in_set and (posix := _POSIX_CLASS.match(regex, index)):
                if posix[0].startswith("[:^"):
                    raise Unknown
                found.append(_POSIX_SETS.get(posix[0], posix[0]))
                index += len(posix[0])
                continue
            in_set = in_set and escape[0] != "]"
            found.append(escape[0])
            index += 1
            continue
        index += 2
    return "".join(found)


def longest(regex: str) -> int | None:
    """The length of the longest match, in characters; None if it has no limit, or the pattern can't be read."""
    try:
        parsed, _ = parse(regex)
        _, width = parsed.getwidth()
    except (Unknown, RecursionError):
        return None
    return int(width) if width < UNLIMITED else None


def without_classes(derived: str) -> str:
    """A derived pattern with one character for each Unicode class: its size tells how much must be followed at once."""
    return _UNICODE_CLASS.sub("a", derived)


def parse(regex: str) -> tuple[Any, list[str]]:
    """A parsed pattern, and the classes for which its stand-ins stand.

    Raises:
        Unknown: Python's parser can't read it, or reads it otherwise than RE2.
    """
    if _parser is None:
        raise Unknown
    readable, classes = _readable(regex)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _parser.parse(readable), classes
    except (re.error, Warning, OverflowError):
        raise Unknown from None


def _readable(regex: str) -> tuple[str, list[str]]:
    """A pattern of RE2's syntax in Python's, with a stand-in for each class that Python does not know.

    Raises:
        Unknown: there is no such pattern.
    """
    if any(ord(char) >= STAND_INS for char in regex):
        raise Unknown
    found: list[str] = []
    classes: list[str] = []
    index, in_set = 0, False
    while index < len(regex):
        char = regex[index]
        known = _UNICODE_CLASS.match(regex, index) or (in_set and _POSIX_CLASS.match(regex, index))
        size = 1
        if known:
            found.append(chr(STAND_INS + len(classes)))
            classes.append(known[0])
            size = len(known[0])
        elif number := _NUMBER.match(regex, index):
            if int(number[1], 16) >= STAND_INS:
                raise Unknown
            found.append(re.escape(chr(int(number[1], 16))))
            size = len(number[0])
        elif char == "\\":
            size = 2
            escape = regex[index : index + 2]
            # Octal numbers, bytes and quoted text are read otherwise, or not at all.
            if escape[1:] in "0123456789CQE":
                raise Unknown
            found.append(r"\Z" if escape == r"\z" else escape)
        elif not in_set and (group := _NAMED_GROUP.match(regex, index)):
            found.append("(?P<")
            size = len(group[0])
        elif char == "[" and not in_set:
            in_set = True
            # A bracket that closes nothing is one of the set.
            size = len(re.match(r"\[\^?\]?", regex[index:])[0])  # pyright: ignore[reportOptionalSubscript]
            found.append(regex[index : index + size])
        else:
            in_set = in_set and char != "]"
            # RE2 knows no repetition without a lower bound.
            char = r"\{" if not in_set and regex.startswith("{,", index) else char
            found.append(char)
        index += size
    return "".join(found), classes


def _prefix(items: list[Any]) -> str:
    """Every beginning of a sequence, the empty one and the whole among them."""
    found = ""
    for item in reversed(items):
        begun, complete = _item_prefix(item), whole([item])
        found = f"(?:{begun}|{complete}{found})" if found else f"(?:{begun}|{complete})"
        if len(found) > _LARGEST:
            raise Unknown
    return found or "(?:)"


def _item_prefix(item: Any) -> str:
    name, value = str(item[0]), item[1]
    if name == "SUBPATTERN":
        return _group(value, _prefix)
    if name == "BRANCH":
        return "(?:" + "|".join(_prefix(list(branch)) for branch in value[1]) + ")"
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        inner = list(value[2])
        most = int(value[1])
        count = "*" if most > 1000 else f"{{0,{most}}}"
        if len(inner) == 1 and str(inner[0][0]) in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return f"(?:{whole(inner)}){count}"
        return f"(?:{whole(inner)}){count}{_prefix(inner)}"
    return "(?:)"


def whole(items: list[Any]) -> str:
    """A parsed sequence in RE2's syntax, without assertions such as `^`."""
    found = "".join(_item(item) for item in items)
    if len(found) > _LARGEST:
        raise Unknown
    return found


def _item(item: Any) -> str:
    name, value = str(item[0]), item[1]
    if name == "LITERAL":
        return f"[{_char(value)}]" if value >= STAND_INS else _char(value)
    if name == "NOT_LITERAL":
        return f"[^{_char(value)}]"
    if name == "ANY":
        return "."
    if name == "AT":
        return ""
    if name == "IN":
        return _set(value)
    if name == "SUBPATTERN":
        return _group(value, whole)
    if name == "BRANCH":
        return "(?:" + "|".join(whole(list(branch)) for branch in value[1]) + ")"
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        low, high, inner = int(value[0]), int(value[1]), whole(list(value[2]))
        count = f"{{{low},{high}}}" if high <= 1000 else f"{{{low},}}"
        return f"(?:{inner}){count}"
    raise Unknown


def _group(value: Any, derive_from: Callable[[list[Any]], str]) -> str:
    _, flags_on, flags_off, items = value
    flags = "i" if flags_on & re.IGNORECASE else "-i" if flags_off & re.IGNORECASE else ""
    return f"(?{flags}:{derive_from(list(items))})"


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
        else:
            raise Unknown
    return f"[{found}]"


def _char(code: int) -> str:
    return rf"\x{{{code:X}}}"
