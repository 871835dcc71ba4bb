"""Finds what a pattern proposes and a check confirms, such as card numbers with a valid check digit.

The check sees nothing but the proposed text, so what is found does not depend on how a stream is cut. Behind the
first character of what the check refuses, the search begins again: a valid number may begin inside.
"""

from __future__ import annotations

from collections.abc import Callable

from tritonllm.guardrails import patterns, spans

# A text of nothing but refused proposals is searched again at each of its characters; after so many, some
# milliseconds, the caller gets what is found.
_REFUSED = 128
# Behind a refused proposal, so many characters are searched at first.
_WINDOW = 64


class Checked:
    """One kind of data.

    Args:
        regex: what to propose, in RE2's syntax.
        check: whether a proposed text is what it looks like.
        rule: the number of its rule.
    """

    reads_markup = False

    def __init__(self, regex: str, check: Callable[[str], bool], rule: int) -> None:
        self._pattern = patterns.Pattern(regex, rule)
        self._check = check

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        found: list[spans.Span] = []
        size, window, refusals = len(text), len(text), 0
        while refusals < _REFUSED:
            # One character before, so that `\b` sees what is there.
            offset = max(0, position - 1)
            stop = min(size, position + window)
            proposed, end = self._pattern.advance(
                text[offset:stop], position - offset, last=last and stop == size
            )
            begun, position = position, end + offset
            for start, behind, rule in proposed:
                if not self._check(text[start + offset : behind + offset]):
                    refusals += 1
                    position, window = start + offset + 1, _WINDOW
                    break
                found.append(spans.Span(start + offset, behind + offset, rule))
            else:
                if stop == size:
                    break
                # A proposal in progress is longer than the window.
                if position == begun:
                    window *= 2
        return found, position
