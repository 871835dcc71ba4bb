"""From a caller's arguments to a model's input tensors, checked before anything is sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tritonllm import errors as wire
from tritonllm import sampling as sampling_module
from tritonllm.client import errors
from tritonllm.runtime import requests

Inputs = dict[str, str | bool]
"""Input tensors by name; each has one element."""

Messages = Sequence[Mapping[str, Any]]
"""A conversation: `{"role": …, "content": …}` turns."""


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
        InvalidRequest: as the server would say it.
    """
    if sampling is not None and parameters:
        names = ", ".join(sorted(parameters))
        raise errors.InvalidRequest(
            f"has a `sampling` object beside it; put it in there: {names}", field=names
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
    except wire.RequestError as error:
        raise errors.InvalidRequest(error.message, field=error.field) from None
    return _encodable(values)


def check(text: str, direction: Literal["input", "output"]) -> Inputs:
    """The inputs of a guardrail model.

    Raises:
        InvalidRequest: as the server would say it.
    """
    if direction not in ("input", "output"):
        raise errors.InvalidRequest(f'must be "input" or "output", not {direction!r}', field="direction")
    return _encodable({"text_input": text, "direction": direction})


def _dumps(field: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise errors.InvalidRequest(f"can't be written as JSON: {error}", field=field) from None


def _encodable(values: Inputs) -> Inputs:
    for name, value in values.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            message = f"has half a surrogate pair at character {error.start}; send whole characters"
            raise errors.InvalidRequest(message, field=name) from None
    return values
