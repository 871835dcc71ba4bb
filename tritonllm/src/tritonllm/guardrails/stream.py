"""One text on its way out: what is decided leaves, what is not is held back.

The promise of this package is kept here. Whatever the cutting of the text, what `feed` and `finish` return
adds up to the same, and nothing of a span that a rule blocks or masks is ever in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tritonllm import api
from tritonllm.guardrails import spans, trie

if TYPE_CHECKING:
    from tritonllm.guardrails.policy import Policy


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
        self._rules: Sequence[api.Rule] = policy.rules
        self._matchers: Sequence[spans.Matcher] = policy.matchers
        # All places count from the beginning of the text; `_text` is what is still needed of it.
        self._text = ""
        self._offset = 0
        self._released = 0
        self._positions = [0] * len(self._matchers)
        self._found: list[spans.Span] = []

    @property
    def held(self) -> str:
        """What has come and is not decided yet."""
        return "" if self.blocked else self._text[self._released - self._offset :]

    def feed(self, chunk: str) -> str:
        """Takes more of the text; returns what may leave."""
        return self._advance(chunk, last=False) if chunk else ""

    def finish(self) -> str:
        """Ends the text; returns the rest."""
        return self._advance("", last=True)

    def _advance(self, chunk: str, *, last: bool) -> str:
        if self.blocked:
            return ""
        self._text += chunk
        offset = self._offset
        for index, matcher in enumerate(self._matchers):
            found, position = matcher.advance(self._text, self._positions[index] - offset, last=last)
            self._positions[index] = position + offset
            self._found += [spans.Span(start + offset, end + offset, rule) for start, end, rule in found]
        released = self._release(min(self._positions, default=offset + len(self._text)))
        self._forget()
        return released

    def _release(self, decided: int) -> str:
        """Lets out what lies before the first undecided place."""
        self._found.sort(key=lambda span: (span.start, span.rule))
        due = [span for span in self._found if span.start < decided]
        block = next((span for span in due if self._action(span) == "Block"), None)
        if block is not None:
            decided = block.start
            due = [span for span in due if span.start <= decided]
        pieces: list[str] = []
        for mask in self._masks(due):
            if mask.end > decided and block is None:
                # More may begin inside it, and belong to it.
                decided = mask.start
                break
            if mask.start < decided:
                pieces += [self._take(mask.start), self._rules[mask.rule].replacement]
                self._released = mask.end
        pieces.append(self._take(decided))
        self._note([span for span in due if span.start < decided or block is not None])
        self.blocked = block is not None
        return "".join(pieces)

    def _masks(self, due: list[spans.Span]) -> list[spans.Span]:
        """What is to be masked: spans that overlap are one, under the first one's rule."""
        masks: list[spans.Span] = []
        for span in due:
            if self._action(span) != "Mask":
                continue
            if masks and span.start < masks[-1].end:
                masks[-1] = masks[-1]._replace(end=max(masks[-1].end, span.end))
            else:
                masks.append(span)
        return masks

    def _note(self, due: list[spans.Span]) -> None:
        for span in due:
            rule = self._rules[span.rule]
            self.verdicts.append(Verdict(rule.name, rule.action, span.start, span.end))
        self._found = self._found[len(due) :]

    def _take(self, end: int) -> str:
        """The text from what has left up to a place, which then has left as well."""
        if end <= self._released:
            return ""
        text = self._text[self._released - self._offset : end - self._offset]
        self._released = end
        return text

    def _forget(self) -> None:
        """Drops what nobody will look at again."""
        needed = min(self._released, *self._positions) if self._positions else self._released
        superfluous = needed - trie.LOOKBACK - self._offset
        if superfluous > 0:
            self._text = self._text[superfluous:]
            self._offset += superfluous

    def _action(self, span: spans.Span) -> str:
        return self._rules[span.rule].action
