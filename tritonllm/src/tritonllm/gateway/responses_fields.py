"""The request of `POST /v1/responses`: its fields, their treatment, and the conversation that they become.

Stateless: nothing is stored, so there is nothing to continue; the caller sends the whole conversation in `input`. It is
answered as a chat completion, so what `chat_fields` promises of messages and tools is true here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from tritonllm import errors
from tritonllm.gateway import chat_fields, failures, fields, generation
from tritonllm.gateway.fields import constrained, ignored, only, refused, supported

_NO_STATE = "Nothing is stored; send the whole conversation in `input`."
_NO_TOOLS_OF_OPENAI = "The only tools are functions."


class InputPart(fields.Fields):
    """A part of an item's content."""

    type: Annotated[
        Literal["input_text", "output_text", "refusal"],
        constrained("Constrained", "Text; the models have no other input."),
    ]
    text: Annotated[str | None, supported("Guarded", "The text.")] = None
    refusal: Annotated[Any, ignored("A refusal of an earlier turn is not shown to the model.")] = None
    annotations: Annotated[Any, ignored("Of answers of OpenAI's own tools.")] = None
    logprobs: Annotated[Any, ignored("Of earlier answers.")] = None
    prompt_cache_breakpoint: Annotated[Any, ignored("The engine caches prefixes by itself.")] = None


Content = Annotated[
    Annotated[str, pydantic.Tag("text")] | Annotated[list[InputPart], pydantic.Tag("parts")],
    pydantic.Discriminator(chat_fields.content_kind),
]


class Item(fields.Fields):
    """An item of the conversation: a message, a call of a function, its result, or reasoning."""

    type: Annotated[
        Literal["message", "function_call", "function_call_output", "reasoning"] | None,
        constrained(
            "Constrained",
            "`message` (default), `function_call`, `function_call_output`; `reasoning` is discarded.",
        ),
    ] = None
    role: Annotated[
        Literal["system", "developer", "user", "assistant"] | None, supported("Constrained", "Of a message.")
    ] = None
    content: Annotated[Content | None, supported("Guarded", "Of a message.")] = None
    call_id: Annotated[
        chat_fields.CallId | None,
        constrained("Opaque", "Identifies a call and its result: 1 to 128 letters, digits and `_.:|-`."),
    ] = None
    name: Annotated[str | None, supported("Guarded", "Of the function that was called.")] = None
    arguments: Annotated[str | None, supported("Guarded", "Of the function that was called, as JSON.")] = None
    output: Annotated[Content | None, supported("Guarded", "Of the function that was called.")] = None
    id: Annotated[Any, ignored("Nothing is stored that it could refer to.")] = None
    status: Annotated[Any, ignored("Items are complete.")] = None
    phase: Annotated[Any, ignored("It is not shown to the model.")] = None
    summary: Annotated[Any, ignored("Reasoning of earlier turns is not shown to the model.")] = None
    encrypted_content: Annotated[Any, ignored("As `summary`.")] = None
    caller: Annotated[Any, ignored("Functions are called by the model only.")] = None
    namespace: Annotated[Any, ignored("Functions have none.")] = None
    async_: Annotated[Any, ignored("The model waits for every result.")] = pydantic.Field(
        default=None, alias="async"
    )


class ResponsesTool(fields.Fields):
    """A function that the model may call."""

    type: Annotated[Literal["function"], constrained("Constrained", "Only `function`.")]
    name: Annotated[chat_fields.FunctionName, supported("Guarded", "1 to 64 letters, digits, `_` and `-`.")]
    description: Annotated[str | None, supported("Guarded", "Shown to the model.")] = None
    parameters: Annotated[
        dict[str, Any] | None, supported("Guarded", "JSON schema of the arguments; shown to the model.")
    ] = None
    strict: Annotated[
        bool | None, supported("Constrained", "Arguments follow the schema, if the engine can enforce it.")
    ] = None
    defer_loading: Annotated[Any, only(False, note="All tools are shown to the model.")] = None
    async_: Annotated[Any, only(False, note="The model waits for every result.")] = pydantic.Field(
        default=None, alias="async"
    )
    allowed_callers: Annotated[Any, refused("Functions are called by the model only.")] = None
    output_schema: Annotated[Any, refused("Results of functions are texts.")] = None


class TextFormat(fields.Fields):
    """`text.format`."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"], supported("Constrained", "The format of the answer.")
    ]
    name: Annotated[Any, ignored("It has no effect.")] = None
    description: Annotated[Any, ignored("It is not shown to the model.")] = None
    schema_: Annotated[
        dict[str, Any] | None,
        supported("Opaque", "It becomes a grammar; what it makes the model write passes the output rules."),
    ] = pydantic.Field(default=None, alias="schema")
    strict: Annotated[Any, ignored("The schema is always enforced.")] = None


class Text(fields.Fields):
    """`text`."""

    format: Annotated[TextFormat | None, supported("Opaque", "Text, a JSON object, or JSON by a schema.")] = (
        None
    )
    verbosity: Annotated[
        Any, only("medium", note="The length of answers is set by `input` and `max_output_tokens`.")
    ] = None


class Reasoning(fields.Fields):
    """`reasoning`."""

    effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high"] | None,
        constrained("Constrained", "For models whose chat template knows it."),
    ] = None
    summary: Annotated[Any, ignored("Reasoning is given as it is, without a summary.")] = None
    generate_summary: Annotated[Any, ignored("As `summary`.")] = None
    context: Annotated[Any, ignored("Reasoning of earlier turns is not shown to the model.")] = None
    mode: Annotated[Any, only("standard", note="There is one mode.")] = None


class ResponsesStreamOptions(fields.Fields):
    """`stream_options`."""

    include_obfuscation: Annotated[Any, ignored("Events are never padded.")] = None


class ResponsesRequest(fields.Body, fields.Fields):
    """The body."""

    model: Annotated[str, supported("Constrained", "Name of the endpoint.")]
    input: Annotated[
        Annotated[str, pydantic.Tag("text")]
        | Annotated[list[Item], pydantic.Field(min_length=1), pydantic.Tag("parts")],
        pydantic.Discriminator(chat_fields.content_kind),
        constrained(
            "Guarded",
            "A text, or the items of the conversation: messages, calls of functions, their results.",
        ),
    ]
    instructions: Annotated[str | None, supported("Guarded", "The system message.")] = None
    max_output_tokens: Annotated[
        int | None,
        supported(
            "Constrained", "Maximum number of tokens to generate; the endpoint has a limit and a default."
        ),
    ] = pydantic.Field(default=None, ge=1, lt=2**31)
    temperature: Annotated[
        float | None, supported("Constrained", "0 to 2; the endpoint's default applies without it.")
    ] = pydantic.Field(default=None, ge=0, le=2)
    top_p: Annotated[
        float | None, supported("Constrained", "Above 0, to 1; the endpoint's default applies without it.")
    ] = pydantic.Field(default=None, gt=0, le=1)
    presence_penalty: Annotated[float | None, supported("Constrained", "-2 to 2.")] = pydantic.Field(
        default=None, ge=-2, le=2
    )
    frequency_penalty: Annotated[float | None, supported("Constrained", "-2 to 2.")] = pydantic.Field(
        default=None, ge=-2, le=2
    )
    text: Annotated[Text | None, supported("Opaque", "The format of the answer.")] = None
    tools: Annotated[
        list[ResponsesTool] | None,
        constrained("Guarded", "Functions, at most 128; if the endpoint's engine has a tool parser."),
    ] = pydantic.Field(default=None, max_length=128)
    tool_choice: Annotated[
        Any, constrained("Constrained", "`none`, `auto`, `required`, or one of the functions by name.")
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, supported("Constrained", "Whether an answer may have several calls.")
    ] = None
    reasoning: Annotated[Reasoning | None, supported("Constrained", "Options of reasoning models.")] = None
    stream: Annotated[bool | None, supported("Constrained", "Answer by server-sent events.")] = None
    stream_options: Annotated[
        ResponsesStreamOptions | None, supported("Constrained", "Options of the stream.")
    ] = None
    store: Annotated[Any, only(False, note="Nothing is stored; answers say `store: false`.")] = None
    background: Annotated[
        Any, only(False, note="Nothing is stored, so an answer can't be fetched later.")
    ] = None
    include: Annotated[
        Any,
        only(
            [],
            ["reasoning.encrypted_content"],
            note="There is nothing else to include; reasoning is not encrypted.",
        ),
    ] = None
    truncation: Annotated[Any, only("disabled", note="A conversation that is too long is an error.")] = None
    top_logprobs: Annotated[Any, only(0, note="Use /v1/chat/completions for log probabilities.")] = None
    previous_response_id: Annotated[Any, refused(_NO_STATE)] = None
    conversation: Annotated[Any, refused(_NO_STATE)] = None
    prompt: Annotated[Any, refused("Prompt templates are stored at OpenAI.")] = None
    context_management: Annotated[Any, only([], note="A conversation that is too long is an error.")] = None
    moderation: Annotated[
        Any, refused("The endpoint's rules are always applied; `guardrails` of the answer has the result.")
    ] = None
    image: Annotated[Any, refused("There are no images.")] = None
    access_programs: Annotated[Any, refused("There are none.")] = None
    max_tool_calls: Annotated[Any, ignored("It limits OpenAI's own tools, of which there are none.")] = None
    metadata: Annotated[
        dict[str, str] | None,
        supported("Refused", "It is returned in the answer, and not forwarded or logged."),
    ] = pydantic.Field(default=None, max_length=16)
    service_tier: Annotated[Any, ignored("There is one tier.")] = None
    user: Annotated[Any, ignored("It is not forwarded or logged.")] = None
    safety_identifier: Annotated[Any, ignored("It is not forwarded or logged.")] = None
    prompt_cache_key: Annotated[Any, ignored("The engine caches prefixes by itself.")] = None
    prompt_cache_options: Annotated[Any, ignored("As `prompt_cache_key`.")] = None
    prompt_cache_retention: Annotated[Any, ignored("As `prompt_cache_key`.")] = None

    NAMES: ClassVar[Mapping[str, str]] = {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
        "structured_outputs": "text.format",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
    }
    """The names of the caller for those of chat and of the pipeline; see `failures.translated`."""

    def asked(self) -> generation.Prompt:
        """What is asked.

        Raises:
            RequestError: fields contradict each other.
        """
        messages, paths = self._messages()
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "max_completion_tokens": self.max_output_tokens,
            "parallel_tool_calls": self.parallel_tool_calls,
            "stream": self.stream,
            "reasoning_effort": self.reasoning.effort if self.reasoning else None,
            "response_format": _response_format(self.text.format) if self.text and self.text.format else None,
            "tools": [_tool(tool) for tool in self.tools] if self.tools else None,
            "tool_choice": _tool_choice(self.tool_choice),
        }
        chat = {name: value for name, value in given.items() if value is not None}
        try:
            body = chat_fields.ChatRequest.read({"model": self.model, "messages": messages, **chat})
            return generation.Prompt(body.inputs(), "input", {**self.NAMES, **paths})
        except errors.RequestError as error:
            raise failures.translated(error, {**self.NAMES, **paths}) from None

    def _messages(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """The conversation as messages of chat, and the caller's fields for theirs."""
        messages: list[dict[str, Any]] = []
        paths: dict[str, str] = {}
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
            paths["messages[0].content"] = "instructions"
        if isinstance(self.input, str):
            paths[f"messages[{len(messages)}].content"] = "input"
            messages.append({"role": "user", "content": self.input})
            return messages, paths
        for index, item in enumerate(self.input):
            path = f"input[{index}]"
            found = _message(path, item)
            if found is None:
                continue
            if "tool_calls" not in found:
                field = "output" if item.type == "function_call_output" else "content"
                paths[f"messages[{len(messages)}].content"] = f"{path}.{field}"
                messages.append(found)
                continue
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant"})
            # Calls of one turn are one message, together with what was said before.
            calls = messages[-1].setdefault("tool_calls", [])
            function = f"messages[{len(messages) - 1}].tool_calls[{len(calls)}].function"
            paths |= {f"{function}.{name}": f"{path}.{name}" for name in ("name", "arguments")}
            calls += found["tool_calls"]
        return messages, paths


def _message(path: str, item: Item) -> dict[str, Any] | None:
    kind = item.type or "message"
    if kind == "reasoning":
        return None
    if kind == "function_call":
        function = {
            "name": _required(f"{path}.name", item.name),
            "arguments": _required(f"{path}.arguments", item.arguments),
        }
        call = {"id": _required(f"{path}.call_id", item.call_id), "type": "function", "function": function}
        return {"tool_calls": [call]}
    if kind == "function_call_output":
        output = _text(f"{path}.output", item.output)
        return {
            "role": "tool",
            "tool_call_id": _required(f"{path}.call_id", item.call_id),
            "content": output,
        }
    content = _text(f"{path}.content", item.content)
    return {"role": _required(f"{path}.role", item.role), "content": content}


def _required(path: str, value: str | None) -> str:
    if value is None:
        raise errors.RequestError("invalid_argument", path, "is required")
    return value


def _text(path: str, content: Any) -> str:
    if content is None:
        raise errors.RequestError("invalid_argument", path, "is required")
    if isinstance(content, str):
        return content
    return "".join(
        _required(f"{path}[{index}].text", part.text)
        for index, part in enumerate(content)
        if part.type != "refusal"
    )


def _response_format(given: TextFormat) -> dict[str, Any]:
    if given.type != "json_schema":
        return {"type": given.type}
    if given.schema_ is None:
        raise errors.RequestError("invalid_argument", "text.format.schema", "is required")
    return {"type": "json_schema", "json_schema": {"schema": given.schema_}}


def _tool(tool: ResponsesTool) -> dict[str, Any]:
    given = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {
        "type": "function",
        "function": {name: value for name, value in given.items() if value is not None},
    }


def _tool_choice(given: Any) -> Any:
    if isinstance(given, dict) and given.get("type") == "function" and "function" not in given:
        return {"type": "function", "function": {"name": given.get("name")}}
    return given
