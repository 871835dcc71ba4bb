"""Validation of a request, shared by the pipeline, the engine and the client.

Pure: input tensors come as plain Python values, and an invalid one raises a `RequestError` that names its field.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pydantic

from tritonllm import errors, sampling, tensors, validation_errors

# Twice what a context of a million tokens holds. Longer inputs would only cost shared memory of Triton and the
# models, which never shrinks again, and delay other requests.
LONGEST_CHARACTERS = 8 << 20
# Describing a problem takes time that other requests wait for.
_MAX_PROBLEMS = 5

ROLES = ("system", "developer", "user", "assistant", "tool")

Message = dict[str, str]
"""One turn of a conversation: `role` and `content`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request: exactly one of `text` and `messages` is set."""

    text: str | None
    messages: list[Message] | None
    sampling: sampling.SamplingParameters
    flags: Mapping[str, bool]

    @property
    def characters(self) -> int:
        """Length of the prompt, or of all turns together."""
        return len(self.text or "") + sum(len(turn["content"]) for turn in self.messages or [])

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
        raise _invalid("text_input", "is missing; send `text_input` or `messages`")
    if text is not None and messages is not None:
        raise _invalid("messages", "cannot be combined with `text_input`; send one of them")
    if text == "":
        raise _invalid("text_input", "is empty; send a prompt")
    for field in ("text_input", "messages", "sampling_parameters"):
        if len(str(values.get(field, ""))) > LONGEST_CHARACTERS:
            raise _invalid(field, f"is longer than {LONGEST_CHARACTERS} characters; shorten it")
    given = values.get("sampling_parameters")
    return Request(
        text=None if text is None else str(text),
        messages=None if messages is None else parse_messages(str(messages)),
        sampling=parse_sampling(_json_object("sampling_parameters", str(given)) if given else parameters),
        flags={name: bool(values[name]) for name in tensors.FLAGS if name in values},
    )


def parse_messages(text: str) -> list[Message]:
    """Reads a conversation in OpenAI's format: a JSON list of `{"role", "content"}` objects."""
    turns = _json("messages", text)
    if not isinstance(turns, list) or not turns:
        raise _invalid(
            "messages", 'must be a JSON list of messages such as [{"role": "user", "content": "Hi"}]'
        )
    return [_message(f"messages[{index}]", turn) for index, turn in enumerate(turns)]


def _message(where: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise _invalid(where, 'must be an object such as {"role": "user", "content": "Hi"}')
    unknown = sorted(turn.keys() - {"role", "content"})
    if unknown:
        raise _invalid(f"{where}.{unknown[0]}", "is not supported; a message has `role` and `content`")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise _invalid(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    if isinstance(content, list):
        content = "".join(_part(f"{where}.content[{index}]", part) for index, part in enumerate(content))
    if not isinstance(content, str):
        raise _invalid(f"{where}.content", "must be a string")
    _encodable(f"{where}.content", content)
    return {"role": role, "content": content}


def _part(where: str, part: Any) -> str:
    if (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    ):
        return part["text"]
    raise _invalid(where, 'only text parts are supported: {"type": "text", "text": "…"}')


def parse_sampling(values: Mapping[str, Any]) -> sampling.SamplingParameters:
    """Checks sampling parameters."""
    try:
        return sampling.SamplingParameters.model_validate(dict(values))
    except pydantic.ValidationError as error:
        (field, message), *others = validation_errors.problems(
            error, sampling.SamplingParameters, limit=_MAX_PROBLEMS
        )
        others = [f"sampling_parameters.{name}: {what}" for name, what in others]
        more = error.error_count() - _MAX_PROBLEMS
        others += [f"and {more} more"] if more > 0 else []
    raise _invalid(f"sampling_parameters.{field}", "; ".join([message, *others]))


def _json_object(field: str, text: str) -> dict[str, Any]:
    value = _json(field, text)
    if not isinstance(value, dict):
        raise _invalid(field, 'must be a JSON object such as {"max_tokens": 64}')
    return value


def _json(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(field, f"is not JSON: {error}") from None


def _encodable(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _invalid(field, f"has a lone surrogate at character {error.start}") from None


def _invalid(field: str, message: str) -> errors.RequestError:
    return errors.RequestError("invalid_argument", field, message)
