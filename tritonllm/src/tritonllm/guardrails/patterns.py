"""Finds the matches of one regular expression, in a text that is still arriving.

A match is the longest from its place on, the leftmost first, at most `LONGEST` code points long: a longer one
could only be told by holding back more than that. It is found on the text as it is, unfolded.
"""

from __future__ import annotations

from typing import Any

import re2

from tritonllm.guardrails import liveness, spans

LONGEST = 512
_BLOCK = 8192


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
        end = len(text) if last else self._decided(text, position)
        found: list[spans.Span] = []
        while position < end:
            # A look at a whole block says that there is no match, which is so for most of all texts.
            stop = min(position + _BLOCK, len(text))
            safe = end if stop == len(text) else min(end, stop - LONGEST - 1)
            begun = self._begins(text, position, stop)
            if begun is None or begun >= safe:
                position = safe
                continue
            span, position = self._next(text, begun, min(begun + LONGEST, end))
            if span is not None:
                found.append(span)
        return found, max(position, end)

    def _decided(self, text: str, position: int) -> int:
        """The first place at which a match may be under way."""
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
        """Where the longest match from a place on ends."""
        offset = max(0, start - 1)
        # One character more on each side, so that `\\b`, `^` and `$` see what is there.
        window = text[offset : start + LONGEST + 1]
        match = self._regex.match(window, start - offset, start - offset + LONGEST)
        return None if match is None or match.end() == match.start() else offset + match.end()

    def _begins(self, text: str, position: int, stop: int) -> int | None:
        """The first place at which a match of any length may begin."""
        offset = max(0, position - 1)
        match = self._regex.search(text[offset:stop], position - offset)
        return None if match is None else offset + match.start()


def _compile(regex: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.longest_match = True
    return re2.compile(regex, options)


def _under_way(regex: str) -> Any:
    prefixes = liveness.prefixes(regex)
    if prefixes is None:
        return None
    try:
        return _compile(rf"{prefixes}\z")
    except re2.error:
        return None
