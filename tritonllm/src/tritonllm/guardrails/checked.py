"""Finds what a pattern proposes and a check confirms, such as card numbers with a valid check digit.

The check sees nothing but the proposed text, so what is found does not depend on how a stream is cut. Behind the
first character of what the check refuses, the search begins again: a valid number may begin inside.
"""

from __future__ import annotations

from tritonllm.guardrails import patterns, spans
from tritonllm.rules import kinds

# A text of nothing but refused proposals is searched again at each of its characters. When checks have cost so much,
# about 10 ms, the caller gets what is found.
_BUDGET = 1000
# Behind a refused proposal, so many characters are searched at first.
_WINDOW = 64


class Checked:
    """One kind of data.

    Args:
        data: what to propose, and what confirms it.
        rule: the number of its rule.
    """

    reads_markup = False

    def __init__(self, data: kinds.Data, rule: int) -> None:
        self._pattern = patterns.Pattern(data.regex, rule)
        self._data = data

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[spans.Span], int]:
        """See `spans.Matcher`."""
        found: list[spans.Span] = []
        size, window, spent = len(text), len(text), 0
        while spent < _BUDGET:
            # One character before, so that `\b` sees what is there.
            offset = max(0, position - 1)
            stop = min(size, position + window)
            proposed, end = self._pattern.advance(
                text[offset:stop], position - offset, last=last and stop == size
            )
            begun, position = position, end + offset
            for start, behind, rule in proposed:
                start, behind = start + offset, behind + offset
                size_confirmed = self._data.confirmed(text[start:behind])
                spent += self._data.cost
                if size_confirmed:
                    found.append(spans.Span(start, start + size_confirmed, rule))
                # The search goes on from here, too, when much is spent.
                if size_confirmed < behind - start or spent >= _BUDGET:
                    position, window = start + max(1, size_confirmed), _WINDOW
                    break
            else:
                if stop == size:
                    break
                # A proposal in progress is longer than the window.
                if position == begun:
                    window *= 2
        return found, position
