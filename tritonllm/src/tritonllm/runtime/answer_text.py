"""The text of an answer as its tokens come: characters that are complete, up to a stop sequence.

The rules are those of vLLM's detokenizer, so that an engine without one answers with the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# The first token of an answer can have a space before it, depending on the tokens of the prompt before it.
_CONTEXT_TOKENS = 6
# What decoders write for bytes that are not a whole character.
_INCOMPLETE = "\ufffd"


class AnswerText:
    """The text of one answer.

    Args:
        decode: makes text of token ids.
        prompt: token ids of the prompt.
        stop: stop sequences.
        include_stop: whether a stop sequence is part of the answer.
        min_tokens: number of tokens before which no stop sequence counts.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        prompt: Sequence[int],
        *,
        stop: Sequence[str] = (),
        include_stop: bool = False,
        min_tokens: int = 0,
    ) -> None:
        self._decode = decode
        # Tokens from `_start` on are decoded again with each new one; those before `_end` are in the text.
        self._tokens = list(prompt[-_CONTEXT_TOKENS:])
        self._start, self._end = 0, len(self._tokens)
        self._stop = stop
        self._include_stop = include_stop
        self._min_tokens = min_tokens
        self._added = 0
        self._text = ""
        self._taken = 0
        self._checked = 0
        # A stop sequence can begin in the last characters.
        self._held = 0 if include_stop else max(map(len, stop), default=1) - 1

    def add(self, token: int) -> bool:
        """Appends a token.

        Returns:
            Whether the text has a stop sequence now; what follows it is removed.
        """
        self._tokens.append(token)
        self._added += 1
        known = self._decode(self._tokens[self._start : self._end])
        decoded = self._decode(self._tokens[self._start :])
        if len(decoded) > len(known) and not decoded.endswith(_INCOMPLETE):
            self._text += decoded[len(known) :]
            self._start, self._end = self._end, len(self._tokens)
        if self._added <= self._min_tokens:
            self._checked = len(self._text)
            return False
        return self._find_stop()

    def take(self, *, ended: bool) -> str:
        """The text that is new since the last call, without what could be the beginning of a stop sequence.

        Args:
            ended: whether no token follows.
        """
        end = len(self._text) if ended else max(self._taken, len(self._text) - self._held)
        taken, self._taken = self._text[self._taken : end], end
        return taken

    def _find_stop(self) -> bool:
        # Each ends in the characters that are new, and may begin before them. The first one that is complete counts.
        found = [
            (index + len(stop), index)
            for stop in self._stop
            if (index := self._text.find(stop, max(0, self._checked - len(stop) + 1))) >= 0
        ]
        self._checked = len(self._text)
        if not found:
            return False
        end, start = min(found, key=lambda place: place[0])
        self._text = self._text[: end if self._include_stop else start]
        return True
