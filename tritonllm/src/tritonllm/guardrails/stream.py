"""A text that arrives in pieces: committed text is released, the rest is held back.

The promise of this package is kept here. Whatever the cutting of the text, what `feed` and `finish` return
adds up to the same, and nothing of a span that a rule blocks or masks is ever in it.
"""

from __future__ import annotations

import dataclasses
import itertools
import string
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tritonllm.guardrails import context, plain_text, shown, spans
from tritonllm.rules import Rule

if TYPE_CHECKING:
    from tritonllm.guardrails.policy import Policy


# Long texts are judged in blocks of so many characters: one takes milliseconds, also if all of it is disguise.
BLOCK = 1024
# Of ASCII letters and what stands between them, a block takes less.
_PLAIN_BLOCKS = 8
_PLAIN = (string.ascii_letters + " ,.;:\n").encode()
_LONG_RUN = 256
# More than this held back is searched again only when it has grown by a quarter, so that a match in progress costs
# in proportion to its length.
_LONG_MATCH = 1024
_TRIM = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule found; never the text itself.

    Attributes:
        rule: its name.
        action: its action.
        start: where, in code points of the original text.
        end: first code point behind it.
    """

    rule: str
    action: str
    start: int
    end: int


class Stream:
    """The state of one text under one policy; not for several threads at once.

    Attributes:
        blocked: a rule has ended the text; nothing more leaves.
        verdicts: what was found so far, in the order of the text.
    """

    def __init__(self, policy: Policy) -> None:
        self.blocked = False
        self.verdicts: list[Verdict] = []
        self._rules: Sequence[Rule] = policy.rules
        self._matchers: Sequence[spans.Matcher] = policy.matchers
        # Offsets count from the beginning of the text; `_text` is the part that is still needed.
        self._text = ""
        self._offset = 0
        self._committed = 0
        self._released = 0
        self._masked = 0
        self._positions = [0] * len(self._matchers)
        # How long the text must be for the next search of each matcher.
        self._due = [0] * len(self._matchers)
        # Whether a matcher has more to do with the text that is here.
        self._is_behind = False
        self._found: list[spans.Span] = []
        self._read_as_shown = [index for index, matcher in enumerate(self._matchers) if matcher.reads_markup]
        self._shown = shown.Shown([self._matchers[index] for index in self._read_as_shown])

    @property
    def held(self) -> str:
        """The text that has arrived and is not committed yet."""
        return "" if self.blocked else self._text[max(self._released, self._masked) - self._offset :]

    def feed(self, chunk: str) -> str:
        """Takes more of the text; returns what can be released."""
        if len(chunk) <= spans.LONGEST_STEP:
            return self._advance(chunk, last=False)
        return "".join(self._steps(blocks(chunk)))

    def finish(self, chunk: str = "") -> str:
        """Takes the end of the text; returns the rest."""
        return "".join(self.finish_steps(chunk))

    def finish_steps(self, chunk: str) -> Iterator[str]:
        """Takes the end of the text, and releases the rest in steps that take some milliseconds each."""
        *before, end = blocks(chunk)
        yield from self._steps(before)
        if not self.blocked:
            yield self._advance(end, last=True)
        size = self._offset + len(self._text)
        while not self.blocked and self._committed < size:
            yield self._advance("", last=True)

    def _steps(self, parts: Sequence[str]) -> Iterator[str]:
        """Takes parts of the text, each after all has been done with the one before: what waits is searched again."""
        for part in parts:
            yield self._advance(part, last=False)
            while self._is_behind:
                yield self._advance("", last=False)
            if self.blocked:
                return

    def _advance(self, chunk: str, *, last: bool) -> str:
        self._is_behind = False
        if self.blocked:
            return ""
        text = self._text = self._text + chunk
        offset = self._offset
        size = committed = offset + len(text)
        if self._read_as_shown and self._shown.begins(chunk):
            before = [self._positions[index] for index in self._read_as_shown]
            found, known, self._is_behind = self._shown.advance(text, chunk, offset, before, last=last)
            self._found += found
            committed = size if known is None else known
        for index, matcher in enumerate(self._matchers):
            position = self._positions[index]
            if last or size >= self._due[index]:
                before_it = position - offset
                found, position = matcher.advance(text, before_it, last=last)
                is_behind = spans.is_behind(before_it, position, len(text))
                position += offset
                self._positions[index] = position
                if is_behind:
                    self._is_behind = True
                elif size - position > _LONG_MATCH:
                    self._due[index] = size + (size - position) // 4
                if found:
                    self._found += [
                        spans.Span(start + offset, end + offset, rule) for start, end, rule in found
                    ]
            committed = min(committed, position)
        self._committed = committed
        released = self._release(committed) if self._found else self._take(committed)
        # Committed text is dropped, except for what matchers look back at.
        superfluous = committed - context.LOOKBACK - offset
        if superfluous > _TRIM:
            self._text = text[superfluous:]
            self._offset += superfluous
        return released

    def _release(self, committed: int) -> str:
        """Releases the text before the committed offset, without what is masked."""
        self._found.sort(key=lambda span: (span.start, span.rule, -span.end))
        due = [span for span in self._found if span.start < committed]
        taken = len(due)
        block = next((span for span in due if self._rules[span.rule].action == "Block"), None)
        if block is not None:
            self.blocked = True
            committed = block.start
            due = [span for span in due if span.start <= committed]
        pieces: list[str] = []
        for span in _longest(due):
            rule = self._rules[span.rule]
            self.verdicts.append(Verdict(rule.name, rule.action, span.start, span.end))
            if rule.action == "Mask" and span.start < committed:
                # What begins inside a mask belongs to it, and only makes it longer.
                if span.start >= self._masked:
                    pieces += [self._take(span.start), rule.replacement]
                self._masked = max(self._masked, span.end)
        pieces.append(self._take(committed))
        self._found = self._found[taken:]
        return "".join(pieces)

    def _take(self, end: int) -> str:
        """The text from the last released offset up to `end`, without what is masked."""
        start = max(self._released, self._masked) - self._offset
        self._released = end
        return self._text[start : max(start, end - self._offset)]


def _longest(found: list[spans.Span]) -> list[spans.Span]:
    """One match of each rule at each start: as it is, and as it is shown, a phrase can end at different places."""
    starts = itertools.groupby(found, key=lambda span: (span.start, span.rule))
    return [next(same) for _, same in starts]


def blocks(text: str) -> list[str]:
    """A text in parts that are judged one after the other; one empty part if it is empty."""
    parts: list[str] = []
    start = 0
    while start < len(text):
        size = _PLAIN_BLOCKS * BLOCK
        block = text[start : start + size]
        if not plain_text.is_all(block, _PLAIN) or _has_long_run(block):
            size = BLOCK
        parts.append(block[:size])
        start += size
    return parts or [""]


def _has_long_run(text: str) -> bool:
    """Whether one letter is there some hundreds of times in a row: from each of them, all that follow may be walked."""
    lower = text.lower()
    return any(
        lower[start] * _LONG_RUN == lower[start : start + _LONG_RUN]
        for start in range(0, len(text), _LONG_RUN)
    )
