"""Conversations and their options in OpenAI's format: what a chat template reads besides a plain text.

Pure. `map_texts` reaches every string that a caller can put into a prompt this way, so that the input rules see all of
them: contents, reasoning and tool calls of earlier turns, results of tools, definitions of tools, and the variables of
the template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pydantic

from tritonllm import errors, validation_errors

ROLES = ("system", "developer", "user", "assistant", "tool")

Message = dict[str, Any]
"""One turn: `role` and `content`, and what OpenAI's API has for its role."""

Options = dict[str, Any]
"""`ChatOptions` as plain data, with what is set."""

_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_MAX_DEPTH = 32
_MAX_PROBLEMS = 5

# Besides `role` and `content`.
_KEYS = {
    "system": {"name"},
    "developer": {"name"},
    "user": {"name"},
    "assistant": {"name", "reasoning", "refusal", "tool_calls"},
    "tool": {"name", "tool_call_id"},
}

_STRICT = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class Function(pydantic.BaseModel):
    """A function that the model can call."""

    model_config = _STRICT

    name: Annotated[str, pydantic.Field(pattern=_NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(pydantic.BaseModel):
    """A tool; functions are the only ones that models know."""

    model_config = _STRICT

    type: Literal["function"]
    function: Function


class FunctionName(pydantic.BaseModel):
    """The name of a function."""

    model_config = _STRICT

    name: str


class ToolChoice(pydantic.BaseModel):
    """The function that the model has to call."""

    model_config = _STRICT

    type: Literal["function"]
    function: FunctionName


class ChatOptions(pydantic.BaseModel):
    """What a conversation can come with; names and meanings are those of OpenAI and vLLM.

    Attributes:
        tools: what the model can call.
        tool_choice: whether it has to.
        parallel_tool_calls: whether it may call several at once.
        reasoning_effort: how much it reasons, where its template knows that.
        include_reasoning: whether its reasoning is part of the answer (default: true).
        chat_template_kwargs: variables of the template.
    """

    model_config = _STRICT

    tools: Annotated[list[Tool], pydantic.Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    include_reasoning: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


def parse_messages(text: str) -> list[Message]:
    """Reads a JSON list of messages; content parts are joined.

    Raises:
        RequestError: `invalid_argument`, with the field that is invalid and why.
    """
    turns = parse_json("messages", text)
    if not isinstance(turns, list) or not turns:
        raise invalid(
            "messages", 'must be a JSON list of messages such as [{"role": "user", "content": "Hi"}]'
        )
    return [_message(f"messages[{index}]", turn) for index, turn in enumerate(turns)]


def parse_options(text: str) -> Options:
    """Reads a JSON object of options; see `ChatOptions`.

    Raises:
        RequestError: as in `parse_messages`.
    """
    value = parse_json("chat_options", text)
    _check_strings("chat_options", value)
    try:
        options = ChatOptions.model_validate(value)
    except pydantic.ValidationError as error:
        (field, message), *_ = validation_errors.problems(error, ChatOptions, limit=_MAX_PROBLEMS)
        raise invalid(f"chat_options.{field}" if field else "chat_options", message) from None
    if isinstance(options.tool_choice, ToolChoice):
        known = [tool.function.name for tool in options.tools or []]
        if options.tool_choice.function.name not in known:
            raise invalid("chat_options.tool_choice", "names a function that is not in `tools`")
    elif options.tool_choice == "required" and not options.tools:
        raise invalid("chat_options.tool_choice", "is `required`, but there are no `tools`")
    return options.model_dump(exclude_none=True)


def refuse_tools(options: Options, reason: str) -> None:
    """Refuses a conversation whose model shall call tools.

    Args:
        options: of the conversation.
        reason: who does not support them, and what to do.

    Raises:
        RequestError: `invalid_argument`.
    """
    if options.get("tools") and options.get("tool_choice") != "none":
        raise invalid("chat_options.tools", f"are not supported by {reason}")


def texts(messages: list[Message]) -> Iterator[str]:
    """All strings of a conversation that a model reads."""
    for turn in messages:
        yield turn["content"]
        yield turn.get("reasoning") or ""
        for call in turn.get("tool_calls", []):
            yield call["function"]["name"]
            yield call["function"]["arguments"]


def map_messages(messages: list[Message], function: Callable[[str, str], str]) -> list[Message]:
    """Replaces every string of a conversation that a model reads.

    Args:
        messages: the conversation.
        function: called with the field and its text; returns the text to put there.
    """
    return [_map_turn(f"messages[{index}]", turn, function) for index, turn in enumerate(messages)]


def map_options(options: Options, function: Callable[[str, str], str]) -> Options:
    """Replaces every string of the options that a model reads: definitions of tools and variables of the template."""
    mapped = {
        key: _map(f"chat_options.{key}", options[key], function)
        for key in ("tools", "chat_template_kwargs")
        if key in options
    }
    return options | mapped


def map_arguments(arguments: str, function: Callable[[str], str]) -> str:
    """Replaces every string in the arguments of a tool call, which are JSON in a string and stay JSON.

    What is not JSON, because a model has not completed it, is replaced as it is.
    """
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return function(arguments)
    changed = False

    def apply(_: str, text: str) -> str:
        nonlocal changed
        result = function(text)
        changed = changed or result != text
        return result

    mapped = _map("", value, apply)
    return json.dumps(mapped, ensure_ascii=False) if changed else arguments


def parse_json(field: str, text: str) -> Any:
    """Reads JSON.

    Raises:
        RequestError: `invalid_argument`.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(field, f"is not JSON: {error}") from None


def invalid(field: str, message: str) -> errors.RequestError:
    """The error of a field that is not valid."""
    return errors.RequestError("invalid_argument", field, message)


def _message(where: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise invalid(where, 'must be an object such as {"role": "user", "content": "Hi"}')
    role = turn.get("role")
    if role not in ROLES:
        raise invalid(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    # Null is as good as absent: clients send all fields of their types.
    turn = {key: value for key, value in turn.items() if value is not None}
    unknown = sorted(turn.keys() - {"role", "content"} - _KEYS[role])
    if unknown:
        known = ", ".join(f"`{key}`" for key in ("role", "content", *sorted(_KEYS[role])))
        raise invalid(f"{where}.{unknown[0]}", f"is not supported; a message of role {role} can have {known}")
    calls = turn.get("tool_calls")
    content = turn.get("content", "" if calls or turn.get("refusal") else None)
    if isinstance(content, list):
        content = "".join(_part(f"{where}.content[{index}]", part) for index, part in enumerate(content))
    if not isinstance(content, str):
        raise invalid(f"{where}.content", "must be a string")
    # A refusal is what the assistant said in place of an answer.
    message: Message = {"role": role, "content": content or turn.pop("refusal", "")}
    for key in ("name", "reasoning", "tool_call_id"):
        if key in turn:
            if not isinstance(turn[key], str):
                raise invalid(f"{where}.{key}", "must be a string")
            message[key] = turn[key]
    if calls is not None:
        if not isinstance(calls, list):
            raise invalid(f"{where}.tool_calls", "must be a list of tool calls")
        message["tool_calls"] = [
            _call(f"{where}.tool_calls[{index}]", call) for index, call in enumerate(calls)
        ]
    _check_strings(where, message)
    return message


def _part(where: str, part: Any) -> str:
    if (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    ):
        return part["text"]
    raise invalid(where, 'only text parts are supported: {"type": "text", "text": "…"}')


def _call(where: str, call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if (
        not isinstance(function, dict)
        or call.keys() - {"id", "type", "function", "index"}
        or call.get("type", "function") != "function"
        or not isinstance(call.get("id"), str)
        or function.keys() != {"name", "arguments"}
        or not all(isinstance(value, str) for value in function.values())
    ):
        raise invalid(
            where,
            'must be like {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}',
        )
    return {"id": call["id"], "type": "function", "function": dict(function)}


def _map_turn(where: str, turn: Message, function: Callable[[str, str], str]) -> Message:
    mapped = dict(turn)
    for key in ("content", "name", "reasoning"):
        if key in turn:
            mapped[key] = function(f"{where}.{key}", turn[key])
    if "tool_calls" in turn:
        mapped["tool_calls"] = [
            call
            | {"function": _map_call(f"{where}.tool_calls[{index}].function", call["function"], function)}
            for index, call in enumerate(turn["tool_calls"])
        ]
    return mapped


def _map_call(where: str, call: dict[str, str], function: Callable[[str, str], str]) -> dict[str, str]:
    return {
        "name": function(f"{where}.name", call["name"]),
        "arguments": map_arguments(call["arguments"], lambda text: function(f"{where}.arguments", text)),
    }


def _map(where: str, value: Any, function: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return function(where, value)
    if isinstance(value, list):
        return [_map(f"{where}[{index}]", item, function) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {function(where, key): _map(f"{where}.{key}", item, function) for key, item in value.items()}
    return value


def _check_strings(where: str, value: Any, depth: int = 0) -> None:
    """Checks that every string can be encoded, and that nothing is nested more deeply than anybody needs."""
    if depth > _MAX_DEPTH:
        raise invalid(where, f"is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise invalid(where, f"has a lone surrogate at character {error.start}") from None
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_strings(f"{where}[{index}]", item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(where, key, depth + 1)
            _check_strings(f"{where}.{key}", item, depth + 1)
