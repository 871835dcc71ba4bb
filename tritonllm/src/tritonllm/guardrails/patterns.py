"""Finds the matches of one regular expression in a text that is still arriving.

As in RE2's `finditer` with `longest_match`: the leftmost match, the longest one from there, of any length. It is
found in the text as it is, without normalization. A match in progress is held back until it is decided, however
long that takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import re2

from tritonllm.guardrails import boundaries, prefixes, spans

# A program that is too large for RE2's automaton may take milliseconds for each piece of a text. It grows with
# what must be followed at once, and less dangerously with Unicode classes.
_LARGEST_PROGRAM = 1000
_LARGEST_WITH_CLASSES = 20_000
# Every match may be searched for up to the end of the text: `a(.*b)?` looks for a `b` behind each `a`. After so many
# characters, some milliseconds, the caller gets what is found.
_SEARCHED = 4_000_000
# A reader notices when an answer is so many characters late.
_LONG_HELD = 80


class Pattern:
    """One pattern.

    Args:
        regex: in RE2's syntax.
        rule: the number of its rule.

    Raises:
        boundaries.Unsupported: the pattern means letters of all scripts, and can't be compiled so.
    """

    reads_markup = False

    def __init__(self, regex: str, rule: int) -> None:
        self._rule = rule
        try:
            regex = prefixes.in_all_scripts(regex)
        except prefixes.Unknown:
            raise boundaries.Unsupported(
                r"`\W`, `\D`, `\S` and `[:^alpha:]` are not supported in a set; write `\P{L}` or the characters"
            ) from None
        guarded = boundaries.guarded(regex)
        # Without boundaries, one pattern serves everywhere.
        self._regex = None if guarded else _compile(regex)
        self._guarded = [_compile(each) for each in guarded] if guarded else []
        self._longest = prefixes.longest(regex)
        self._prefix = _prefix(regex)
        self._first = _first(self._prefix) if self._prefix else None

    @property
    def held(self) -> int | None:
        """How much of any text is held back, beside matches in progress; None if all of it."""
        return 0 if self._prefix is not None else self._longest

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        end = len(text)
        if self._first and not self._first.search(text, position):
            return [], end
        if not last:
            end = self._in_progress(text, position)
        if end == position:
            return [], position
        found: list[spans.Span] = []
        searched = 0
        for start, stop in self._matches(text, position):
            if start >= end:
                break
            if stop > start:
                found.append(spans.Span(start, stop, self._rule))
                end = max(end, stop)
            searched += len(text) - start
            if searched > _SEARCHED:
                return found, max(stop, start + 1)
        return found, end

    def _matches(self, text: str, position: int) -> Iterator[tuple[int, int]]:
        # One character before, so that boundaries and `^` see what is there.
        offset = max(0, position - 1)
        if self._regex is not None:
            for match in self._regex.finditer(text[offset:], position - offset):
                yield match.start() + offset, match.end() + offset
            return
        while position < len(text):
            offset = max(0, position - 1)
            match = self._guarded[0 if position == 0 else 1].search(text[offset:])
            if match is None:
                return
            start, stop = (place + offset for place in match.span(match.lastindex))
            yield start, stop
            position = max(stop, start + 1)

    def _in_progress(self, text: str, position: int) -> int:
        """The first position at which a match may begin that goes on behind the text."""
        if self._longest is not None:
            position = max(position, len(text) - self._longest)
        if self._prefix is None:
            return position
        tail = text[position:]
        # In bytes, RE2 is spared the translation of offsets. It always finds something, if only the empty end.
        return position + self._prefix.search(tail.encode() if tail.isascii() else tail).start()


def warnings(regex: str) -> Iterator[str]:
    """A warning if the matches in progress of a pattern can't be told from other text, so that streams wait for it.

    Raises:
        boundaries.Unsupported: see `Pattern`.
    """
    held = Pattern(regex, 0).held
    if held is None:
        yield (
            f"matches in progress of the pattern {regex!r} can't be told from other text, and it has no longest match: an "
            "answer is held back until it is complete"
        )
    elif held > _LONG_HELD:
        yield (
            f"matches in progress of the pattern {regex!r} can't be told from other text: the last {held} characters of an "
            "answer are always held back"
        )


def _compile(regex: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.longest_match = True
    # RE2's automaton is a hundred times faster than what it falls back to if there is no room for it.
    options.max_mem = 32 << 20
    return re2.compile(regex, options)


def _prefix(regex: str) -> Any:
    """Matches, at the end of a text, what a match of `regex` may begin with; None if it can't be told."""
    derived = prefixes.derive(regex)
    if derived is None:
        return None
    try:
        if _compile(prefixes.without_classes(derived)).programsize > _LARGEST_PROGRAM:
            return None
        compiled = _compile(rf"{derived}\z")
    except re2.error:
        return None
    return compiled if compiled.programsize <= _LARGEST_WITH_CLASSES else None


def _first(prefix: Any) -> re.Pattern[str]:
    """Matches every character that may begin a match, in Python's `re`, which is faster on short texts."""
    chars = "".join(chr(code) for code in range(128) if prefix.fullmatch(chr(code)))
    return re.compile(f"[{re.escape(chars)}\x80-\U0010ffff]")
