"""Validation of a request, shared by the pipeline, the engine and the client.

Pure: input tensors come as plain Python values, and an invalid one raises a `RequestError` that names its field.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import pydantic

from tritonllm import sampling, tensors, validation_errors
from tritonllm.runtime import conversations

ADAPTER = "lora_name"
"""Among the sampling parameters, as in Triton's vLLM backend: the LoRA adapter that the request asks for."""

# Twice what a context of a million tokens holds. Longer inputs would only cost shared memory of Triton and the
# models, which never shrinks again, and delay other requests.
LONGEST_CHARACTERS = 8 << 20
# Describing a problem takes time that other requests wait for.
_MAX_PROBLEMS = 5
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request: exactly one of `text` and `messages` is set; `adapter` is the LoRA adapter to use."""

    text: str | None
    messages: list[conversations.Message] | None
    sampling: sampling.SamplingParameters
    flags: Mapping[str, bool]
    chat: conversations.Options = dataclasses.field(default_factory=dict)
    chat_characters: int = 0
    adapter: str | None = None

    @property
    def characters(self) -> int:
        """Length of the prompt, or of all turns and their options together."""
        turns = sum(map(len, conversations.texts(self.messages or [])))
        return len(self.text or "") + turns + self.chat_characters

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a streamed answer."""
        return self.flags.get("stream", False)

    @property
    def echo(self) -> bool:
        """Whether the caller asked for the prompt in front of the answer."""
        return self.flags.get("exclude_input_in_output") is False

    def wants(self, output: str) -> bool:
        """Whether the caller asked for an output by its `return_…` flag."""
        return self.flags.get(f"return_{output}", False)


def parse(values: Mapping[str, str | bool], parameters: Mapping[str, Any]) -> Request:
    """Checks a request.

    Args:
        values: the input tensors that were sent, by name.
        parameters: the request's parameters. If there is no `sampling_parameters` tensor, these are the sampling
            parameters, as in Triton's vLLM backend.

    Raises:
        RequestError: `invalid_argument`, with the field that is invalid and why.
    """
    text, messages = values.get("text_input"), values.get("messages")
    if text is None and messages is None:
        raise conversations.invalid("text_input", "is missing; send `text_input` or `messages`")
    if text is not None and messages is not None:
        raise conversations.invalid("messages", "cannot be combined with `text_input`; send one of them")
    if text == "":
        raise conversations.invalid("text_input", "is empty; send a prompt")
    chat = values.get("chat_options")
    if chat is not None and messages is None:
        raise conversations.invalid(
            "chat_options", "is for `messages`, and cannot be combined with `text_input`"
        )
    for field in ("text_input", "messages", "chat_options", "sampling_parameters"):
        if len(str(values.get(field, ""))) > LONGEST_CHARACTERS:
            raise conversations.invalid(field, f"is longer than {LONGEST_CHARACTERS} characters; shorten it")
    given = values.get("sampling_parameters")
    chosen = _json_object("sampling_parameters", str(given)) if given else dict(parameters)
    adapter = chosen.pop(ADAPTER, None)
    if adapter is not None and not isinstance(adapter, str):
        raise conversations.invalid(
            f"sampling_parameters.{ADAPTER}", "must be a string, the name of an adapter"
        )
    return Request(
        text=None if text is None else str(text),
        messages=None if messages is None else conversations.parse_messages(str(messages)),
        sampling=parse_sampling(chosen),
        flags={name: bool(values[name]) for name in tensors.FLAGS if name in values},
        chat={} if chat is None else conversations.parse_options(str(chat)),
        chat_characters=len(str(chat or "")),
        adapter=adapter,
    )


def parse_sampling(values: Mapping[str, Any]) -> sampling.SamplingParameters:
    """Checks sampling parameters."""
    try:
        return sampling.SamplingParameters.model_validate(
            {name: _number(name, value) for name, value in values.items()}
        )
    except pydantic.ValidationError as error:
        (field, message), *others = validation_errors.problems(
            error, sampling.SamplingParameters, limit=_MAX_PROBLEMS
        )
        others = [f"sampling_parameters.{name}: {what}" for name, what in others]
        more = error.error_count() - _MAX_PROBLEMS
        others += [f"and {more} more"] if more > 0 else []
    raise conversations.invalid(f"sampling_parameters.{field}", "; ".join([message, *others]))


def _number(name: str, value: Any) -> Any:
    """A number that came as a text, as the sample client of Triton's vLLM backend sends them; others as they are."""
    field = sampling.SamplingParameters.model_fields.get(name)
    if field is not None and isinstance(value, str) and _NUMBER.fullmatch(value):
        if field.annotation == int | None and value.removeprefix("-").isdecimal():
            return int(value)
        if field.annotation == float | None:
            return float(value)
    return value


def _json_object(field: str, text: str) -> dict[str, Any]:
    value = conversations.parse_json(field, text)
    if not isinstance(value, dict):
        raise conversations.invalid(field, 'must be a JSON object such as {"max_tokens": 64}')
    return value
