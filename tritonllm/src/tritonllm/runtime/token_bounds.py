"""Refuses token ids and biases that engines can't take. Pure.

Token ids index the engine's logits: versions that do not check them end with one such request, or write into the row of
another. What a version checks by itself differs, so all versions get the same answer from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonllm import errors

LARGEST_BIAS = 100
"""OpenAI's bounds: https://platform.openai.com/docs/api-reference/chat/create (`logit_bias`). Beyond the range of a float32
a bias is infinite, and the probabilities of all tokens are no numbers."""


def check(given: Mapping[str, Any], vocabulary: int) -> None:
    """Checks the sampling parameters of a request, the endpoint's defaults included.

    Args:
        given: as in `SamplingParameters`.
        vocabulary: number of the model's token ids.

    Raises:
        RequestError: a token id or a bias is out of bounds.
    """
    for token in given.get("stop_token_ids") or ():
        _check_token("stop_token_ids", token, vocabulary)
    for key, bias in (given.get("logit_bias") or {}).items():
        # Not `int(key)`: that takes spaces, signs and underscores as well.
        if not (key.isascii() and key.isdecimal()):
            raise _refused("logit_bias", 'must have token ids as keys, such as {"42": -100}')
        _check_token("logit_bias", int(key[:20]), vocabulary)
        if not -LARGEST_BIAS <= bias <= LARGEST_BIAS:
            raise _refused(
                "logit_bias", f"must have biases from -{LARGEST_BIAS} to {LARGEST_BIAS}, got {bias:g}"
            )


def _check_token(field: str, token: int, vocabulary: int) -> None:
    if not 0 <= token < vocabulary:
        raise _refused(field, f"has token id {token}, and this model's are 0 to {vocabulary - 1}")


def _refused(field: str, message: str) -> errors.RequestError:
    return errors.RequestError("invalid_argument", f"sampling_parameters.{field}", message)
