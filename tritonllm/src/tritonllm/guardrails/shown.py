"""Applies phrases to what a chat page shows of a text, beside the text as it is.

Nearly every piece of a text has no markup, and then both are the same: nothing is done until a unit of `markup` begins,
and nothing any more when the last one is out of sight.
"""

from __future__ import annotations

from collections.abc import Sequence

from tritonllm.guardrails import context, markup, markup_view, spans


class Shown:
    """The state of one text.

    Args:
        matchers: what is applied.
    """

    def __init__(self, matchers: Sequence[spans.Matcher]) -> None:
        self._matchers = matchers
        self._view: markup_view.MarkupView | None = None
        self._positions: list[int] = []

    def begins(self, chunk: str) -> bool:
        """Whether there may be something to do for a text that goes on with a chunk."""
        return self._view is not None or markup.may_begin(chunk)

    def advance(
        self, text: str, chunk: str, offset: int, positions: Sequence[int], *, last: bool
    ) -> tuple[list[spans.Span], int | None, bool]:
        """Takes more of a text, if something `begins`.

        Args:
            text: the text that is still needed, with the new chunk at its end.
            chunk: what is new.
            offset: of `text` in the whole.
            positions: the offsets that the matchers have committed of the text before the chunk.
            last: whether nothing follows.

        Returns:
            Matches that are found only in what is shown; the offset up to which all such matches are known, None if it is
            that of the text as it is; and whether a matcher has more to do.
        """
        view = self._view
        if view is None:
            before = text[: len(text) - len(chunk)]
            view = markup_view.MarkupView(before, offset)
            self._positions = [position - offset for position in positions]
        view.feed(chunk, last=last)
        if not view.is_undecided and self._is_out_of_sight(view, positions):
            self._view = None
            return [], None, False
        self._view = view
        found: list[spans.Span] = []
        is_behind = False
        for index, matcher in enumerate(self._matchers):
            before_it = self._positions[index]
            matches, position = matcher.advance(view.text, before_it, last=last)
            is_behind |= spans.is_behind(before_it, position, len(view.text))
            self._positions[index] = position
            for start, end, rule in matches:
                original = view.span(start, end)
                if original is not None:
                    found.append(spans.Span(*original, rule))
        position = min(self._positions)
        committed = view.start(position)
        trimmed = view.trim(position)
        self._positions = [position - trimmed for position in self._positions]
        return found, committed, is_behind

    def _is_out_of_sight(self, view: markup_view.MarkupView, positions: Sequence[int]) -> bool:
        if view.unit_end is None:
            return True
        committed = min(*positions, *map(view.start, self._positions))
        return view.unit_end + context.LOOKBACK <= committed
