"""Finds the matches of one regular expression, in a text that is still arriving.

A match is the longest from its place on, the leftmost first, at most `LONGEST` code points long: a longer one
could only be told by holding back more than that. It is found on the text as it is, unfolded.
"""

from __future__ import annotations

from typing import Any

import re2

from tritonllm.guardrails import prefixes, spans

LONGEST = 512
# A program that is too large for RE2's automaton may take milliseconds for each piece of a text.
_LARGEST_PROGRAM = 1000


class Pattern:
    """One pattern.

    Args:
        regex: in RE2's syntax.
        rule: the number of its rule.
    """

    def __init__(self, regex: str, rule: int) -> None:
        self._rule = rule
        self._regex = _compile(regex)
        self._under_way = _under_way(regex)

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        end = len(text) if last else self._committed(text, position)
        found: list[spans.Span] = []
        while position < end:
            span, position = self._run(text, position, end, found)
            if span is not None:
                found.append(span)
        return found, max(position, end)

    def _run(
        self, text: str, position: int, end: int, found: list[spans.Span]
    ) -> tuple[spans.Span | None, int]:
        """Adds the matches up to one that is too long, and looks for a shorter one there.

        Returns:
            What it found there, and where to go on.
        """
        # One character before, so that `\b` and `^` see what is there.
        offset = max(0, position - 1)
        for match in self._regex.finditer(text[offset:], position - offset):
            start, stop = match.start() + offset, match.end() + offset
            if start >= end:
                break
            if stop - start > LONGEST:
                return self._next(text, start, min(start + LONGEST, end))
            if stop > start:
                found.append(spans.Span(start, stop, self._rule))
                end = max(end, stop)
        return None, end

    def _committed(self, text: str, position: int) -> int:
        """The first position at which a match may be in progress."""
        earliest = max(position, len(text) - LONGEST)
        if self._under_way is None:
            return earliest
        # It always finds something: a match may begin behind the last character.
        return earliest + self._under_way.search(text[earliest:]).start()

    def _next(self, text: str, position: int, end: int) -> tuple[spans.Span | None, int]:
        """The first match that begins before `end`, and where to go on."""
        for start in range(position, end):
            stop = self._longest(text, start)
            if stop is not None:
                return spans.Span(start, stop, self._rule), stop
        return None, end

    def _longest(self, text: str, start: int) -> int | None:
        """Where the longest match that begins at a position ends."""
        offset = max(0, start - 1)
        # One character more on each side, so that `\b`, `^` and `$` see what is there.
        window = text[offset : start + LONGEST + 1]
        match = self._regex.match(window, start - offset, start - offset + LONGEST)
        return None if match is None or match.end() == match.start() else offset + match.end()


def _compile(regex: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.longest_match = True
    # RE2's automaton is a hundred times quicker than what it falls back to when there is no room for it.
    options.max_mem = 32 << 20
    return re2.compile(regex, options)


def _under_way(regex: str) -> Any:
    derived = prefixes.derive(regex)
    if derived is None:
        return None
    try:
        compiled = _compile(rf"{derived}\z")
    except re2.error:
        return None
    return compiled if compiled.programsize <= _LARGEST_PROGRAM else None
