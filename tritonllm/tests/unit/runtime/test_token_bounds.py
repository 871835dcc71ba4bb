"""Requests that would end an engine are refused before they reach it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tritonllm import errors
from tritonllm.runtime import token_bounds


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": 1.0, "stop_token_ids": None, "logit_bias": None},
        {"stop_token_ids": [0, 999], "min_tokens": 5},
        {"logit_bias": {"0": -100, "999": 100.0}},
    ],
)
def test_what_the_model_has_is_taken(given: dict[str, Any]) -> None:
    token_bounds.check(given, 1000)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stop_token_ids": [5, 1000]}, "stop_token_ids: has token id 1000, and this model's are 0 to 999"),
        ({"stop_token_ids": [-1]}, "stop_token_ids: has token id -1"),
        ({"logit_bias": {"1000": 1}}, "logit_bias: has token id 1000"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias: has token id 9999"),
        ({"logit_bias": {"-1": 1}}, "logit_bias: must have token ids as keys"),
        ({"logit_bias": {"1_0": 1}}, "logit_bias: must have token ids as keys"),
        ({"logit_bias": {"hello": 1}}, "logit_bias: must have token ids as keys"),
        ({"logit_bias": {"1": 1e39}}, "logit_bias: must have biases from -100 to 100, got 1e\\+39"),
        ({"logit_bias": {"1": -math.inf}}, "got -inf"),
        ({"logit_bias": {"1": math.nan}}, "got nan"),
    ],
)
def test_what_it_does_not_have_is_refused_with_the_field(given: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.RequestError, match=said) as caught:
        token_bounds.check(given, 1000)
    assert caught.value.code == "invalid_argument"
