"""The text that `markup` shows, with the offsets of the original; grows with the text."""

from __future__ import annotations

import bisect

from tritonllm.guardrails import context, markup

# A window that has moved so far is cut.
_TRIM = 1024


class MarkupView:
    """What is shown of a text from some position on.

    Attributes:
        text: what is shown and still needed.
        end: offset in the original up to which it is decided.
        unit_end: offset in the original behind the last unit; None if there was none.
        is_undecided: whether a unit may be under way.

    Args:
        before: the text before, as it is: nothing of it is a unit.
        offset: where it begins in the original.
    """

    def __init__(self, before: str, offset: int) -> None:
        self.text = before
        self.end = offset + len(before)
        self.unit_end: int | None = None
        self._pending = ""
        self._last = before[-markup.LOOKBEHIND :]
        # Parts of the text, by their positions: what is as in the original, and what is shown of one unit. With a
        # part go the original offsets of its beginning and end.
        self._at = [0]
        self._parts: list[tuple[int, int, bool]] = [(offset, self.end, False)]

    @property
    def is_undecided(self) -> bool:  # noqa: D102 - see the class
        return bool(self._pending)

    def feed(self, chunk: str, *, last: bool) -> None:
        """Takes more of the original."""
        head = self._last
        raw = head + self._pending + chunk
        start = position = len(head)
        shown: list[str] = []
        while found := markup.STARTS.search(raw, position):
            unit = markup.unit(raw, found.start(), last=last)
            position = found.start() + 1
            if unit is None:
                continue
            end, said = unit
            self._plain(raw[start : found.start()], shown)
            start = found.start()
            if end == start:
                break
            self._unit(said, end - start, shown)
            start = position = end
        else:
            self._plain(raw[start:], shown)
            start = len(raw)
        self.text += "".join(shown)
        self._pending = raw[start:]
        self._last = raw[max(0, start - markup.LOOKBEHIND) : start]

    def _plain(self, text: str, shown: list[str]) -> None:
        if text:
            start, _, is_unit = self._parts[-1]
            if is_unit:
                self._at.append(self._size(shown))
                self._parts.append((self.end, self.end + len(text), False))
            else:
                self._parts[-1] = (start, self.end + len(text), False)
            self.end += len(text)
            shown.append(text)

    def _unit(self, said: str, length: int, shown: list[str]) -> None:
        self._at.append(self._size(shown))
        self._parts.append((self.end, self.end + length, True))
        self.end += length
        shown.append(said)
        self.unit_end = self.end

    def _size(self, shown: list[str]) -> int:
        return len(self.text) + sum(map(len, shown))

    def start(self, position: int) -> int:
        """The original offset of what is shown at a position; of the end, where what is undecided begins."""
        if position >= len(self.text):
            return self.end
        index = bisect.bisect_right(self._at, position) - 1
        start, _, is_unit = self._parts[index]
        return start if is_unit else start + position - self._at[index]

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """The original offsets of what is shown between two positions; None if no unit is inside or directly behind."""
        first = bisect.bisect_right(self._at, start) - 1
        final = bisect.bisect_right(self._at, end - 1) - 1
        behind_is_unit = final + 1 < len(self._at) and self._at[final + 1] == end
        if first == final and not self._parts[first][2] and not behind_is_unit:
            return None
        begin, behind, is_unit = self._parts[final]
        return self.start(start), behind if is_unit else begin + end - self._at[final]

    def trim(self, position: int) -> int:
        """Drops what is not needed before a position; returns how much."""
        superfluous = position - context.LOOKBACK
        if superfluous < _TRIM:
            return 0
        index = bisect.bisect_right(self._at, superfluous) - 1
        start, end, is_unit = self._parts[index]
        if not is_unit:
            self._parts[index] = (start + superfluous - self._at[index], end, False)
        self._at = [max(0, at - superfluous) for at in self._at[index:]]
        self._parts = self._parts[index:]
        self.text = self.text[superfluous:]
        return superfluous
