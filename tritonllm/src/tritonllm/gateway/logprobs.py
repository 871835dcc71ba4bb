"""Log probabilities, from the pipeline's form into OpenAI's.

The pipeline's form is that of Triton's vLLM backend: for each generated token an object that maps token ids to
`{"logprob", "rank", "decoded_token"}`, with the generated token first and then the most likely ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LEAST = -9999.0
"""Stands for minus infinity, as in vLLM's server: JSON has no number for it."""


def chat(positions: Iterable[dict[str, Any]], top: int) -> list[dict[str, Any]]:
    """`logprobs.content` of chat completions.

    Args:
        positions: one per generated token.
        top: number of most likely tokens to list for each.
    """
    found = []
    for position in positions:
        generated, *_ = listed = list(position.values())
        found.append(
            _token(generated) | {"top_logprobs": [_token(each) for each in most_likely(listed, top)]}
        )
    return found


def completion(positions: Iterable[dict[str, Any]], top: int, offset: int) -> dict[str, list[Any]]:
    """`logprobs` of completions.

    Args:
        positions: one per generated token.
        top: number of most likely tokens to list for each.
        offset: where the first of these tokens begins: the lengths of the texts of all tokens before it.
    """
    found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for position in positions:
        generated, *_ = listed = list(position.values())
        token = _text(generated)
        found["tokens"].append(token)
        found["token_logprobs"].append(_logprob(generated))
        # The generated token is listed as well, also if it is not one of the most likely.
        shown = [generated, *most_likely(listed, top)]
        found["top_logprobs"].append({_text(each): _logprob(each) for each in shown})
        found["text_offset"].append(offset)
        offset += len(token)
    return found


def most_likely(listed: list[dict[str, Any]], top: int) -> list[dict[str, Any]]:
    """The most likely tokens of a position."""
    return sorted(listed, key=lambda each: each["rank"] or 0)[:top]


def _token(found: dict[str, Any]) -> dict[str, Any]:
    text = _text(found)
    return {"token": text, "logprob": _logprob(found), "bytes": list(text.encode())}


def _text(found: dict[str, Any]) -> str:
    return found["decoded_token"] or ""


def _logprob(found: dict[str, Any]) -> float:
    return max(found["logprob"], _LEAST)
