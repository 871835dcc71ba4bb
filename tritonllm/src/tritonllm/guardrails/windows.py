"""A growing text in overlapping windows, which a classifier judges one by one.

Where windows begin and end depends on the text alone, not on the pieces in which it arrives: so the same text gets the same
verdicts, streamed or whole.
"""

from __future__ import annotations

import dataclasses

# A word that a window's edge would cut is left to the neighbour, if it is not longer than this.
_LONGEST_WORD = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A part of a text.

    Attributes:
        start: offset of its first character.
        end: offset behind its last one.
        text: what is between, without a word that is cut at an edge.
    """

    start: int
    end: int
    text: str


class Windows:
    """The windows of one text.

    Args:
        size: of a window, in characters; at least four times the longest word that is kept whole. The next one begins
            in its middle.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._step = size // 2
        self._text = ""
        self._covered = 0
        self.start = 0
        """Where the next window begins; all windows before have been returned."""

    @property
    def length(self) -> int:
        """Length of the text so far."""
        return self.start + len(self._text)

    def feed(self, text: str) -> list[Window]:
        """Takes more of the text; returns the windows that are complete."""
        text = self._text + text
        found: list[Window] = []
        at = 0
        while len(text) - at >= self._size:
            found += self._cut(text[at : at + self._size], last=False)
            at += self._step
            self.start += self._step
        self._text = text[at:]
        return found

    def finish(self) -> list[Window]:
        """Takes note of the end of the text; returns the last window, unless those before have all of it."""
        found = self._cut(self._text, last=True) if self.length > self._covered else []
        self.start, self._text = self.length, ""
        return found

    def _cut(self, text: str, *, last: bool) -> list[Window]:
        begin = _first_word(text) if self.start else 0
        end = len(text) if last else _last_word(text)
        self._covered = self.start + end
        # A classifier has nothing to say about space.
        words = text[begin:end]
        return [Window(self.start, self.start + len(text), words)] if words.strip() else []


def _first_word(text: str) -> int:
    for index, char in enumerate(text[:_LONGEST_WORD]):
        if char.isspace():
            return index
    return 0


def _last_word(text: str) -> int:
    for index in range(len(text) - 1, max(len(text) - 1 - _LONGEST_WORD, 0), -1):
        if text[index].isspace():
            return index
    return len(text)
