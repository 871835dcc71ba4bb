"""Validates a caller's arguments and turns them into input tensors. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tritonllm import errors as request_errors
from tritonllm import sampling as sampling_module
from tritonllm.client import errors
from tritonllm.runtime import requests

Inputs = dict[str, str | bool]
"""Input tensors by name; each has one element."""

Messages = Sequence[Mapping[str, Any]]
"""A conversation: `{"role": …, "content": …}` messages."""


def generate(
    prompt: str | None,
    messages: Messages | None,
    sampling: sampling_module.SamplingParameters | None,
    parameters: Mapping[str, Any],
    *,
    stream: bool,
) -> Inputs:
    """The inputs of an endpoint.

    Raises:
        InvalidRequest: with the message that the server would send.
    """
    if sampling is not None and parameters:
        names = ", ".join(sorted(parameters))
        raise errors.InvalidRequest(
            f"cannot be combined with the `sampling` argument; set it there: {names}", field=names
        )
    values: Inputs = {"stream": stream}
    if prompt is not None:
        values["text_input"] = prompt
    if messages is not None:
        values["messages"] = _dumps("messages", list(messages))
    chosen = (
        sampling.given() if sampling is not None else {k: v for k, v in parameters.items() if v is not None}
    )
    if chosen:
        values["sampling_parameters"] = _dumps("sampling_parameters", chosen)
    if chosen.get("logprobs") is not None:
        values["return_logprobs"] = True
    try:
        requests.parse(values, {})
    except request_errors.RequestError as error:
        raise errors.InvalidRequest(error.message, field=error.field) from None
    return _encodable(values)


def check(text: str, direction: Literal["input", "output"]) -> Inputs:
    """The inputs of a guardrail model.

    Raises:
        InvalidRequest: the direction is unknown, or the text is not valid Unicode.
    """
    if direction not in ("input", "output"):
        raise errors.InvalidRequest(f'must be "input" or "output", got {direction!r}', field="direction")
    return _encodable({"text_input": text, "direction": direction})


def _dumps(field: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise errors.InvalidRequest(f"cannot be encoded as JSON: {error}", field=field) from None


def _encodable(values: Inputs) -> Inputs:
    for name, value in values.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            message = f"has a lone surrogate at character {error.start}"
            raise errors.InvalidRequest(message, field=name) from None
    return values
