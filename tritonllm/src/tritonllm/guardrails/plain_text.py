"""The fast path of `phrases`: a search of plain text, which cannot be disguised.

Plain text is ASCII letters and what separates them, as most prose is. A phrase can begin in it only with its own
first word, a letter three times in a row, or a word spelled letter by letter. One search in C finds these; in a short
piece of text there is usually nothing, and the only open question is whether the last word, which may go on, begins a
phrase: that is a look-up, however many phrases there are.
"""

from __future__ import annotations

import bisect
import string
from collections.abc import Iterable, Mapping

import ahocorasick_rs

from tritonllm.guardrails import matcher, plain_view

# A letter three times in a row may be one or two.
REPEATS = [letter * matcher.SHORTEST_REPEAT for letter in string.ascii_lowercase]
_SPELLED = [f" {first} {second} " for first in string.ascii_lowercase for second in string.ascii_lowercase]
_PLAIN = {chr(code) for code in range(128) if plain_view.SHAPE[ord(plain_view.VIEW[code])] in "a "}


def is_all(text: str, chars: bytes) -> bool:
    """Whether a text has no other characters than these of ASCII; ten times as fast as a regular expression."""
    return text.isascii() and not text.encode().translate(None, chars)


class PlainText:
    """Searches plain text for phrases that share a way of matching.

    Args:
        keys: as `phrases` searches a view for them.
        runs: the view of every phrase up to the end of its first word.
        odd: characters other than letters with which a phrase begins; text with one of them is not plain.
        words: whether phrases are matched at word boundaries only.
    """

    def __init__(self, keys: Mapping[str, str], runs: Iterable[str], odd: str, *, words: bool) -> None:
        self._words = words
        self._plain = "".join(sorted(_PLAIN - set(odd))).encode()
        self._following = list(keys.values())
        self._finder = ahocorasick_rs.AhoCorasick(
            REPEATS + list(keys) + (_SPELLED if words else []),
            implementation=ahocorasick_rs.Implementation.DFA,
        )
        self._first_words = sorted(set(runs))
        self._longest = max(map(len, self._first_words), default=0) + 1

    def search(self, text: str, position: int, *, last: bool) -> tuple[list[int], int] | None:
        """Searches a text from a position on; see `spans.Matcher.advance`.

        Returns:
            The positions at which a phrase may begin, in order, and the new committed offset if no phrase in progress
            begins at one of them; None if the text is not plain.
        """
        tail = text[position:]
        if not is_all(tail, self._plain):
            return None
        view = f" {tail.translate(plain_view.VIEW)} "
        end = len(text)
        found = self._finder.find_matches_as_indexes(view, overlapping=True)
        starts = self._starts(found, view, text, position) if found else []
        if last:
            return starts, end
        start = view.rfind(" ", 0, -1) + 1
        word = view[start:-1]
        if not word:
            # A letter by itself may begin a word that is spelled letter by letter.
            single = position + start - 3
            if self._words and view[start - 3 : start - 2] == " " != view[start - 2] and single not in starts:
                starts.append(single)
        elif not self._words:
            end = self._live(word, end)
        elif self._begins(word) and not (start == 1 and self._inside_word(text, position)):
            end -= len(word)
        return [start for start in starts if start < end], end

    def _starts(self, found: list[tuple[int, int, int]], view: str, text: str, position: int) -> list[int]:
        starts: set[int] = set()
        run_end = 0
        for index, first, behind in found:
            if index < len(REPEATS):
                # Some letters share a view.
                if (
                    first >= run_end
                    and len(set(text[position + first - 1 : position + behind - 1].lower())) == 1
                ):
                    run, run_end = view.rfind(" ", 0, first) + 1, view.find(" ", first)
                    starts.update([run] if self._words else range(run, run_end))
            elif view[first] != " ":
                starts.add(first)
            elif index >= len(REPEATS) + len(self._following):
                starts.add(first + 1)
            else:
                following = self._following[index - len(REPEATS)]
                if not following or view[behind : behind + 1] in f" {following}":
                    starts.add(first + 1)
        inside = self._words and self._inside_word(text, position)
        return sorted(start + position - 1 for start in starts if not (start == 1 and inside))

    def _inside_word(self, text: str, position: int) -> bool:
        """Whether the word at a position has begun before it."""
        return position > 0 and text[position - 1].isascii() and text[position - 1].isalpha()

    def _begins(self, word: str) -> bool:
        """Whether a first word begins so, also if the last letter is there twice, as a third one may follow."""
        return self._is_beginning(word) or (word[-1] == word[-2:-1] and self._is_beginning(word[:-1]))

    def _is_beginning(self, word: str) -> bool:
        words = self._first_words
        index = bisect.bisect_left(words, word)
        return index < len(words) and words[index].startswith(word)

    def _live(self, word: str, end: int) -> int:
        """The first position in the last word at which a phrase may begin."""
        for start in range(max(0, len(word) - self._longest), len(word)):
            if self._begins(word[start:]):
                return end - len(word) + start
        return end
