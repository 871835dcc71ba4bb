"""What matchers agree on: how a match is named, and how a text is read that is still arriving."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Span(NamedTuple):
    """A match: from `start` up to `end`, of the rule with this number."""

    start: int
    end: int
    rule: int


class Matcher(Protocol):
    """Finds the matches of some rules; holds no state of any text."""

    def advance(self, text: str, position: int, *, last: bool) -> tuple[list[Span], int]:
        """Decides as many places of a text as what has come of it allows.

        What is decided does not depend on how much more had come when it was: that is what makes a stream
        and a whole text give the same.

        Args:
            text: what has come, or its end, with up to `context.LOOKBACK` code points of what was decided
                before `position`.
            position: the first place at which it is not decided whether a match begins.
            last: whether nothing comes after `text`.

        Returns:
            The matches that begin at decided places, and the new first undecided place.
        """
        ...
