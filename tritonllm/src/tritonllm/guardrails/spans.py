"""The interface of matchers: a span, and how a text that is still arriving is searched."""

from __future__ import annotations

from typing import NamedTuple, Protocol

LONGEST_STEP = 160
"""How much a matcher does in one step, some milliseconds: it walks from so many positions. If there is more to do, it has
advanced by at least so many code points."""


class Span(NamedTuple):
    """A match of the rule with this number, from `start` up to `end` (exclusive)."""

    start: int
    end: int
    rule: int


class Matcher(Protocol):
    """Finds the matches of some rules; holds no state of any text.

    Attributes:
        reads_markup: whether it is also applied to what a chat page shows of a text.
    """

    reads_markup: bool

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[Span], int]:
        """Commits to the matches that begin before an offset which no further input can change.

        What is committed does not depend on how much of the text had arrived: that is why a stream and the
        same text as a whole give the same result.

        Args:
            text: the text that has arrived, or its end, with up to `context.LOOKBACK` code points before
                `position`.
            position: the offset committed so far: matches that begin before it are known.
            last: whether nothing follows `text`.

        Returns:
            The matches that begin at or after `position` and before the new committed offset, and that
            offset. It can be lower than the text would allow, to be called again, if there is much to do; see
            `LONGEST_STEP`.
        """
        ...


def is_behind(before: int, position: int, size: int) -> bool:
    """Whether a matcher that has advanced from one offset to another may have more to do with a text of this length."""
    return position < size and position - before >= LONGEST_STEP
