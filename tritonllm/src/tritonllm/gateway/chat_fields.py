"""The request of `POST /v1/chat/completions`: its fields, their treatment, and the pipeline's inputs they become."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
import pydantic

from tritonllm import errors
from tritonllm.gateway import fields, generate_fields, generation, upstream
from tritonllm.gateway.fields import constrained, ignored, only, refused, supported

_FUNCTION_NAME = r"^[a-zA-Z0-9_-]{1,64}$"
_MAX_TOOLS = 128
_ONLY_FUNCTIONS = "The only tools are functions."

CallId = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.:|-]{1,128}$")]
"""An identifier of a tool call, as models and servers generate them; some chat templates show it to the model."""

FunctionName = Annotated[str, pydantic.StringConstraints(pattern=_FUNCTION_NAME)]


class Part(fields.Fields):
    """A part of a message's content."""

    type: Annotated[
        Literal["text"], constrained("Constrained", "Only `text`; the models have no other input.")
    ]
    text: Annotated[str, supported("Guarded", "The text.")]
    prompt_cache_breakpoint: Annotated[Any, ignored("The engine caches prefixes by itself.")] = None


def content_kind(content: Any) -> str:
    """Which form a content has: `parts` or `text`, for pydantic's choice between the two."""
    return "parts" if isinstance(content, list) else "text"


Content = Annotated[
    Annotated[str, pydantic.Tag("text")] | Annotated[list[Part], pydantic.Tag("parts")],
    pydantic.Discriminator(content_kind),
]


class CalledFunction(fields.Fields):
    """`function` of a tool call."""

    name: Annotated[str, supported("Guarded", "Name of the function.")]
    arguments: Annotated[str, supported("Guarded", "Its arguments, as JSON.")]


class ToolCall(fields.Fields):
    """A tool call of an earlier answer."""

    id: Annotated[CallId, constrained("Opaque", "Identifies the call: 1 to 128 letters, digits and `_.:|-`.")]
    type: Annotated[Literal["function"], constrained("Constrained", "Only `function`.")] = "function"
    function: Annotated[CalledFunction, supported("Guarded", "The function and its arguments.")]
    custom: Annotated[Any, refused(_ONLY_FUNCTIONS)] = None
    index: Annotated[Any, ignored("Clients that repeat deltas of a stream send it.")] = None


class Message(fields.Fields):
    """A message of the conversation."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"],
        constrained("Constrained", "All but the deprecated `function`."),
    ]
    content: Annotated[
        Content | None, supported("Guarded", "The text; of every role, also in earlier turns.")
    ] = None
    name: Annotated[Any, ignored("Chat templates do not use it.")] = None
    tool_calls: Annotated[list[ToolCall] | None, supported("Guarded", "Of the role `assistant`.")] = None
    tool_call_id: Annotated[CallId | None, constrained("Opaque", "Of the role `tool`: `id` of the call.")] = (
        None
    )
    refusal: Annotated[Any, ignored("A refusal of an earlier turn is not shown to the model.")] = None
    reasoning: Annotated[
        str | None,
        supported(
            "Guarded", "vLLM's, of the role `assistant`: its reasoning, if the chat template shows it."
        ),
    ] = None
    reasoning_content: Annotated[Any, ignored("An older name of `reasoning`.")] = None
    annotations: Annotated[Any, ignored("Of answers of OpenAI's own tools.")] = None
    audio: Annotated[Any, refused("There is no audio.")] = None
    function_call: Annotated[Any, refused("Deprecated by OpenAI; use `tool_calls`.")] = None
    tools: Annotated[Any, refused("Tools are given in the request's `tools`.")] = None

    def inputs(self) -> dict[str, Any]:
        """The message for the pipeline: what the model is shown."""
        found: dict[str, Any] = {"role": self.role}
        if isinstance(self.content, list):
            found["content"] = [{"type": "text", "text": part.text} for part in self.content]
        elif self.content is not None or not self.tool_calls:
            found["content"] = self.content
        if self.tool_calls:
            found["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in self.tool_calls
            ]
        if self.reasoning is not None and self.role == "assistant":
            found["reasoning"] = self.reasoning
        if self.tool_call_id is not None:
            found["tool_call_id"] = self.tool_call_id
        return found


class Function(fields.Fields):
    """`function` of a tool."""

    name: Annotated[FunctionName, supported("Guarded", "1 to 64 letters, digits, `_` and `-`.")]
    description: Annotated[str | None, supported("Guarded", "Shown to the model.")] = None
    parameters: Annotated[
        dict[str, Any] | None, supported("Guarded", "JSON schema of the arguments; shown to the model.")
    ] = None
    strict: Annotated[
        bool | None, supported("Constrained", "Arguments follow the schema, if the engine can enforce it.")
    ] = None


class Tool(fields.Fields):
    """A tool that the model may call."""

    type: Annotated[Literal["function"], constrained("Constrained", "Only `function`.")]
    function: Annotated[Function, supported("Guarded", "The function.")]
    custom: Annotated[Any, refused(_ONLY_FUNCTIONS)] = None


class JsonSchema(fields.Fields):
    """`json_schema` of a response format."""

    name: Annotated[str | None, ignored("It has no effect.")] = None
    description: Annotated[
        Any, ignored("It is not shown to the model; describe the format in a message.")
    ] = None
    schema_: Annotated[
        dict[str, Any] | None,
        supported("Opaque", "It becomes a grammar; what it makes the model write passes the output rules."),
    ] = pydantic.Field(default=None, alias="schema")
    strict: Annotated[Any, ignored("The schema is always enforced.")] = None


class ResponseFormat(fields.Fields):
    """`response_format`."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"],
        constrained("Constrained", "All but `grammar` and `python`."),
    ]
    json_schema: Annotated[
        JsonSchema | None, supported("Opaque", "The schema, if the type is `json_schema`.")
    ] = None
    grammar: Annotated[Any, refused("Use vLLM's `structured_outputs`.")] = None

    def structured_outputs(self) -> dict[str, Any] | None:
        """The pipeline's `structured_outputs`; None for any text.

        Raises:
            RequestError: the schema is missing.
        """
        if self.type == "json_object":
            return {"json_object": True}
        if self.type != "json_schema":
            return None
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise errors.RequestError("invalid_argument", "response_format.json_schema.schema", "is required")
        return {"json": self.json_schema.schema_}


class ChatRequest(generate_fields.Generating):
    """The body."""

    messages: Annotated[
        list[Message],
        supported("Guarded", "The conversation. The input rules are applied to every message of it."),
    ] = pydantic.Field(min_length=1)
    max_tokens: Annotated[
        int | None, supported("Constrained", "Deprecated by OpenAI; as `max_completion_tokens`.")
    ] = pydantic.Field(default=None, ge=1, lt=2**31)
    max_completion_tokens: Annotated[
        int | None,
        supported(
            "Constrained", "Maximum number of tokens to generate; the endpoint has a limit and a default."
        ),
    ] = pydantic.Field(default=None, ge=1, lt=2**31)
    logprobs: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        bool | None,
        constrained("Opaque", "Refused by endpoints with output rules: it would show what they remove."),
    ] = None
    top_logprobs: Annotated[int | None, constrained("Opaque", "0 to 20; requires `logprobs`.")] = (
        pydantic.Field(default=None, ge=0, le=20)
    )
    response_format: Annotated[
        ResponseFormat | None, constrained("Opaque", "`text`, `json_object` or `json_schema`.")
    ] = None
    tools: Annotated[
        list[Tool] | None,
        constrained("Guarded", "Functions, at most 128; if the endpoint's engine has a tool parser."),
    ] = pydantic.Field(default=None, max_length=_MAX_TOOLS)
    tool_choice: Annotated[
        Any, constrained("Constrained", "`none`, `auto`, `required`, or one of the functions by name.")
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, supported("Constrained", "Whether an answer may have several calls.")
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high"] | None,
        constrained("Constrained", "For models whose chat template knows it."),
    ] = None
    include_reasoning: Annotated[
        bool | None,
        supported("Constrained", "vLLM's: whether the answer has the model's reasoning, in `reasoning`."),
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None,
        supported("Guarded", "vLLM's: variables of the chat template, such as `enable_thinking`."),
    ] = None
    metadata: Annotated[Any, ignored("It is not forwarded or logged.")] = None
    store: Annotated[Any, only(False, note="Nothing is stored.")] = None
    service_tier: Annotated[Any, ignored("There is one tier.")] = None
    safety_identifier: Annotated[Any, ignored("It is not forwarded or logged.")] = None
    prompt_cache_key: Annotated[Any, ignored("The engine caches prefixes by itself.")] = None
    prompt_cache_options: Annotated[Any, ignored("As `prompt_cache_key`.")] = None
    prompt_cache_retention: Annotated[Any, ignored("As `prompt_cache_key`.")] = None
    modalities: Annotated[Any, only(["text"], note="Answers are text.")] = None
    verbosity: Annotated[
        Any, only("medium", note="The length of answers is set by messages and `max_completion_tokens`.")
    ] = None
    audio: Annotated[Any, refused("There is no audio.")] = None
    prediction: Annotated[Any, refused("Predicted outputs are not available.")] = None
    moderation: Annotated[
        Any, refused("The endpoint's rules are always applied; `guardrails` of the answer has the result.")
    ] = None
    web_search_options: Annotated[Any, refused("There is no web search.")] = None
    function_call: Annotated[Any, only("none", note="Deprecated by OpenAI; use `tool_choice`.")] = None
    functions: Annotated[Any, refused("Deprecated by OpenAI; use `tools`.")] = None
    chat_template: Annotated[
        Any, refused("vLLM's; a template is set by `engine.args.chat_template` of the endpoint.")
    ] = None
    echo: Annotated[Any, only(False, note="vLLM's; the answer does not repeat messages.")] = None
    add_generation_prompt: Annotated[
        Any, only(True, note="vLLM's; answers are always a turn of the assistant.")
    ] = None
    continue_final_message: Annotated[
        Any, only(False, note="vLLM's; the last message can't be continued.")
    ] = None
    documents: Annotated[
        Any, refused("vLLM's; put documents into a message, where the input rules see them.")
    ] = None
    mm_processor_kwargs: Annotated[Any, refused("vLLM's; the models have no other input than text.")] = None

    @property
    def top(self) -> int | None:
        """Number of most likely tokens to list for each token; None without log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def names(self) -> dict[str, str]:
        """The names of the caller for those of the pipeline; see `failures.translated`."""
        limit = "max_completion_tokens" if self.max_completion_tokens is not None else "max_tokens"
        structured = "response_format" if self.response_format is not None else "structured_outputs"
        return {
            "max_tokens": limit,
            "structured_outputs": structured,
            "return_logprobs": "logprobs",
            "logprobs": "top_logprobs" if self.top_logprobs else "logprobs",
        }

    def prompt(self) -> generation.Prompt:
        """What is asked.

        Raises:
            RequestError: fields contradict each other.
        """
        return generation.Prompt(self.inputs(), "messages", self.names)

    def inputs(self) -> upstream.Inputs:
        """The pipeline's inputs.

        Raises:
            RequestError: fields contradict each other.
        """
        options = self._options()
        return {
            "messages": orjson.dumps([message.inputs() for message in self.messages]).decode(),
            "sampling_parameters": orjson.dumps(self._sampling()).decode(),
            **({"chat_options": orjson.dumps(options).decode()} if options else {}),
            **generate_fields.flags(stream=bool(self.stream), n=self.choices, logprobs=bool(self.logprobs)),
        }

    def _sampling(self) -> dict[str, Any]:
        found = self.sampling_parameters()
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise _invalid("max_tokens", "differs from `max_completion_tokens`; send one of them")
            found["max_tokens"] = self.max_completion_tokens
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("top_logprobs", "requires `logprobs: true`")
        if self.logprobs:
            found["logprobs"] = self.top
        if self.response_format is not None:
            structured = self.response_format.structured_outputs()
            if structured is not None and self.structured_outputs is not None:
                raise _invalid(
                    "structured_outputs", "cannot be combined with `response_format`; send one of them"
                )
            if structured is not None:
                found["structured_outputs"] = structured
        return found

    def _options(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.tools:
            found["tools"] = [tool.model_dump(exclude_none=True) for tool in self.tools]
        if self.tool_choice is not None:
            choice = self._tool_choice()
            if self.tools:
                found["tool_choice"] = choice
        if self.parallel_tool_calls is not None and self.tools:
            found["parallel_tool_calls"] = self.parallel_tool_calls
        if self.chat_template_kwargs:
            found["chat_template_kwargs"] = self.chat_template_kwargs
        if self.reasoning_effort is not None:
            found["reasoning_effort"] = self.reasoning_effort
        if self.include_reasoning is not None:
            found["include_reasoning"] = self.include_reasoning
        return found

    def _tool_choice(self) -> Any:
        choice = self.tool_choice
        if choice in ("none", "auto"):
            return choice
        known = [tool.function.name for tool in self.tools or []]
        if choice == "required" and known:
            return choice
        if (
            isinstance(choice, dict)
            and choice.get("type") == "function"
            and isinstance(choice.get("function"), dict)
        ):
            name = choice["function"].get("name")
            if name in known:
                return {"type": "function", "function": {"name": name}}
            listed = ", ".join(f"`{each}`" for each in known) or "of which there are none"
            raise _invalid("tool_choice.function.name", f"must be a function of `tools`: {listed}")
        if choice == "required":
            raise _invalid("tool_choice", "requires `tools`")
        raise _invalid(
            "tool_choice",
            'must be `none`, `auto`, `required` or {"type": "function", "function": {"name": "…"}}',
        )


def _invalid(field: str, message: str) -> errors.RequestError:
    return errors.RequestError("invalid_argument", field, message)
