r"""Word boundaries between letters of all scripts, which RE2 does not have: its `\b` knows ASCII only.

A `\b` at an edge of an alternative is replaced by the character beside it: `\bcafé\b` becomes `[^\w](café)[^\w]`, and the
group is the match. Where an alternative may begin with a letter or with a sign, as `\b[\w.]+@` may, it is split in two.
"""

from __future__ import annotations

import re
from typing import Any

from tritonllm.guardrails import normalization, prefixes

_Items = list[Any]
_LITERAL = "LITERAL"
# The members of a larger range are not told apart one by one.
_LARGEST_RANGE = 0x3000
_WORD = rf"[{prefixes.WORD}]"
_NO_WORD = rf"[^{prefixes.WORD}]"
_BOUNDARY = re.compile(r"(?:^|[^\\])(?:\\\\)*\\[bB]")
# What a class of RE2 has, by the first letter of its name; a script is one of letters.
_SIGNS = frozenset("ZSC")


class Unsupported(ValueError):
    """A boundary whose two sides can't be told; its text says what to write instead."""


def guarded(regex: str) -> tuple[str, str] | None:
    r"""A pattern as two of RE2's: for the beginning of a text, and for behind a character, which is consumed.

    Args:
        regex: a pattern that RE2 accepts, with the classes of `prefixes.in_all_scripts`.

    Returns:
        The patterns, in whose matches the one group that is set is the match of `regex`; None if it has no boundaries.

    Raises:
        Unsupported: there are no such patterns.
    """
    if not _BOUNDARY.search(regex):
        return None
    try:
        parsed, classes = prefixes.parse(regex)
        branches = _branches(list(parsed))
        guards = _Guards(classes)
        patterns = [
            [each for items in branches for each in guards.guard(items, start)] for start in (r"\A|", "")
        ]
    except (prefixes.Unknown, RecursionError):
        raise Unsupported(
            r"`\b` and `\B` are supported at the beginning and end of the pattern and of its alternatives, beside a letter,"
            r" a sign or a set of them; elsewhere, write the characters, as in `(?:^|[^\p{L}\p{N}_])`"
        ) from None
    given = parsed.state.flags
    flags = "".join(letter for letter, flag in (("i", re.IGNORECASE), ("s", re.DOTALL)) if given & flag)
    flags = f"(?{flags})" if flags else ""
    beginning, behind = (prefixes.with_classes(flags + "|".join(each), classes) for each in patterns)
    return beginning, behind


def _branches(items: _Items) -> list[_Items]:
    """The alternatives of a pattern; those of a group at an edge are taken out of it if they have boundaries."""
    for at in (0, -1) if items else ():
        name, value = str(items[at][0]), items[at][1]
        if not _has_assertions([items[at]]):
            continue
        if name == "BRANCH":
            inner = [list(branch) for branch in value[1]]
        elif name == "SUBPATTERN" and not value[1] and not value[2]:
            inner = [list(value[3])]
        else:
            continue
        return [
            each
            for branch in inner
            for each in _branches(branch + items[1:] if at == 0 else items[:-1] + branch)
        ]
    return [items]


def _boundary(item: Any) -> bool | None:
    """Whether an item is a boundary of a word, or the opposite; None if it is neither."""
    return {"AT_BOUNDARY": True, "AT_NON_BOUNDARY": False}.get(str(item[1])) if str(item[0]) == "AT" else None


def _has_assertions(items: _Items) -> bool:
    """Whether a sequence has more boundaries, `^` or `$`, or a group in which a dot means something else."""
    for item in items:
        name, value = str(item[0]), item[1]
        if name == "AT" or (name == "SUBPATTERN" and (value[1] | value[2]) & re.DOTALL):
            return True
        inner = (
            value[1]
            if name == "BRANCH"
            else [value[3]]
            if name == "SUBPATTERN"
            else [value[2]]
            if "REPEAT" in name
            else []
        )
        if any(_has_assertions(list(each)) for each in inner):
            return True
    return False


class _Guards:
    """Replaces boundaries by characters.

    Args:
        classes: those for which the stand-ins of a parsed pattern stand.
    """

    def __init__(self, classes: list[str]) -> None:
        self._classes = classes

    def guard(self, items: _Items, start: str) -> list[str]:
        """An alternative with a character before it, and a group around what is matched.

        Args:
            items: the alternative.
            start: what the character before may be beside itself, such as the beginning of the text.
        """
        first = _boundary(items[0]) if items else None
        last = _boundary(items[-1]) if len(items) > 1 else None
        body = items[0 if first is None else 1 : None if last is None else -1]
        if _has_assertions(body):
            raise prefixes.Unknown
        found: list[str] = []
        for before, bodies in self._firsts(body, first, start):
            for each in bodies:
                if last is None:
                    found.append(f"{before}({prefixes.whole(each)})")
                    continue
                words, others = self._split(each, -1)
                at_end, inside = rf"(?:\z|{_NO_WORD})", _WORD
                found += [f"{before}({prefixes.whole(one)}){at_end if last else inside}" for one in words]
                found += [f"{before}({prefixes.whole(one)}){inside if last else at_end}" for one in others]
        return found

    def _firsts(self, body: _Items, first: bool | None, start: str) -> list[tuple[str, list[_Items]]]:
        if first is None:
            return [(f"(?:{start}(?s:.))", [body])]
        words, others = self._split(body, 0)
        at_start, inside = f"(?:{start}{_NO_WORD})", _WORD
        return [(at_start, words), (inside, others)] if first else [(inside, words), (at_start, others)]

    def _split(self, items: _Items, at: int) -> tuple[list[_Items], list[_Items]]:
        """A sequence as alternatives that begin (`at` 0) or end (-1) with a letter, and others that do so with a sign.

        Raises:
            prefixes.Unknown: it can't be told.
        """
        if not items:
            raise prefixes.Unknown
        item = items[at]
        rest = items[1:] if at == 0 else items[:-1]
        name, value = str(item[0]), item[1]

        def joined(sequences: list[_Items]) -> list[_Items]:
            return [each + rest if at == 0 else rest + each for each in sequences]

        match name:
            case "LITERAL":
                words, others = ([[item]], []) if self._is_word(value) else ([], [[item]])
            case "IN":
                inside, outside = self._split_set(value)
                words = [[(item[0], inside)]] if inside else []
                others = [[(item[0], outside)]] if outside else []
            case "SUBPATTERN":
                _, on, off, sub = value
                words, others = (
                    [[(item[0], (None, on, off, each))] for each in part]
                    for part in self._split(list(sub), at)
                )
            case "BRANCH":
                parts = [self._split(list(branch), at) for branch in value[1]]
                words, others = ([each for part in parts for each in part[index]] for index in (0, 1))
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, sub = value
                most = high if high >= prefixes.UNLIMITED else high - 1
                more = [(item[0], (max(int(low) - 1, 0), most, sub))] if most else []
                words, others = (
                    [each + more if at == 0 else more + each for each in part]
                    for part in self._split(list(sub), at)
                )
                if not low:
                    without = self._split(rest, at)
                    return joined(words) + without[0], joined(others) + without[1]
            case _:
                raise prefixes.Unknown
        return joined(words), joined(others)

    def _split_set(self, members: list[Any]) -> tuple[list[Any], list[Any]]:
        if str(members[0][0]) == "NEGATE":
            excluded = {
                self._classes[code - prefixes.STAND_INS]
                for name, code in members[1:]
                if str(name) == _LITERAL and code >= prefixes.STAND_INS
            }
            if excluded >= {r"\p{L}", r"\p{M}", r"\p{N}"}:
                return [], members
            raise prefixes.Unknown
        words: list[Any] = []
        others: list[Any] = []
        for member in members:
            name, value = str(member[0]), member[1]
            if name == "LITERAL":
                (words if self._is_word(value) else others).append(member)
            elif name == "RANGE" and value[1] < _LARGEST_RANGE:
                for code in range(value[0], value[1] + 1):
                    (words if self._is_word(code) else others).append((_LITERAL, code))
            else:
                raise prefixes.Unknown
        return words, others

    def _is_word(self, code: int) -> bool:
        if code >= prefixes.STAND_INS:
            name = self._classes[code - prefixes.STAND_INS]
            if name.startswith((r"\P", "[:^", r"\p{^")) or name in (
                r"\p{P}",
                r"\pP",
                "[:punct:]",
                "[:graph:]",
                "[:print:]",
            ):
                raise prefixes.Unknown
            return name.strip(r"\p{")[0] not in _SIGNS and name not in ("[:space:]", "[:blank:]", "[:cntrl:]")
        return normalization.is_letter(chr(code)) or code == ord("_")
