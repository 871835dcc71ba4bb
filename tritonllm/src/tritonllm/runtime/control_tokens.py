"""Keeps the control tokens of a model out of what callers write: `<|im_end|>` in a message stays ten characters of text.

A chat template makes one text of a conversation, in which a tokenizer can't tell what a caller wrote from what the
template wrote. Therefore a random mark is put into each control token in the caller's texts before the template runs.
The template's text is then cut at the marks, and each part is tokenized: no part has a control token of the caller, and
together the parts are the original text.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

_NEVER = re.compile(r"(?!)")


class ControlTokens:
    """The control tokens of one model.

    Args:
        tokenizer: a tokenizer of transformers.
        template: the chat template, or None. Some models mark turns with tokens that their tokenizer does not call
            special, such as DeepSeek's `<｜User｜>`; they are those that the template writes.
    """

    def __init__(self, tokenizer: Any, template: str | None) -> None:
        added = tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        written = {
            token.content for token in added if token.content.strip() and token.content in (template or "")
        }
        self._special = _starts(special)
        self._all = _starts(special | written)

    def mark(self) -> str:
        """A mark for one prompt: letters and digits, which templates leave as they are, and no caller can guess."""
        return f"x{secrets.token_hex(12)}x"

    def guard(self, text: str, mark: str, *, models: bool = False) -> str:
        """Puts a mark into each control token of a text.

        Args:
            text: what a caller wrote.
            mark: see `mark`.
            models: whether the text is a model's, in which tags such as `</think>` mean something to the template;
                only special tokens are marked in it.
        """
        return (self._special if models else self._all).sub(lambda found: found[0] + mark, text)


def _starts(tokens: set[str]) -> re.Pattern[str]:
    """Finds the first character of each token in a text, also of those that overlap."""
    # One character can't be cut.
    long = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    if not long:
        return _NEVER
    return re.compile(f"(?={'|'.join(map(re.escape, long))}).", re.DOTALL)
