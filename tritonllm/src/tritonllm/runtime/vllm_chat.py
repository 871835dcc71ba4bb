"""Tool calls and reasoning by vLLM's own parsers: the one place that knows their names.

The names are the same from 0.24 to 0.33; tests look for them in recordings of these versions (`tools/vllm_names.py`) and
in the installed one. Where a version lacks one, conversations work, and what needs a parser is refused with the reason.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from tritonllm import errors
from tritonllm.runtime import conversations, prompts

# Module and name, and the parameters that are passed by name; for methods, `Class.method`.
CONTRACT: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest"): (),
    ("vllm.parser", "ParserManager.get_parser"): (
        "tool_parser_name",
        "reasoning_parser_name",
        "enable_auto_tools",
        "model_name",
    ),
    ("vllm.parser", "Parser.__init__"): ("tokenizer", "tools"),
    ("vllm.parser", "Parser.adjust_request"): ("request",),
    ("vllm.parser", "Parser.parse_delta"): (
        "delta_text",
        "delta_token_ids",
        "request",
        "prompt_token_ids",
        "finished",
    ),
    ("vllm.parser", "Parser.parse"): (
        "model_output",
        "request",
        "enable_auto_tools",
        "model_output_token_ids",
    ),
    ("vllm.tool_parsers", "ToolParserManager.list_registered"): (),
    ("vllm.reasoning", "ReasoningParserManager.list_registered"): (),
    ("vllm.v1.engine.async_llm", "AsyncLLM.add_request"): ("reasoning_ended", "reasoning_parser_kwargs"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.generate"): ("reasoning_ended", "reasoning_parser_kwargs"),
}
# What `Parser.adjust_request` sets, in all versions.
_ADJUSTED = ("structured_outputs", "skip_special_tokens", "spaces_between_special_tokens")

# Arguments of an endpoint's engine that are not vLLM's `AsyncEngineArgs`.
OWN_ARGUMENTS = ("chat_template", "prompt", "tool_call_parser")


@dataclasses.dataclass(slots=True)
class Delta:
    """What one choice has new; see `backend.Update`."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def missing() -> list[str]:
    """The names that the installed vLLM lacks, each with what is wrong; empty where all of this works."""
    return [problem for key, parameters in CONTRACT.items() if (problem := _missing(*key, parameters))]


def check_names(tool_call_parser: str | None, reasoning_parser: str | None) -> None:
    """Checks that vLLM has the parsers of an endpoint, before its weights are loaded.

    Raises:
        ValueError: it has no such parser, or none at all.
    """
    given = {"tool_call_parser": tool_call_parser, "reasoning_parser": reasoning_parser}
    given = {argument: name for argument, name in given.items() if name}
    if not given:
        return
    if absent := missing():
        raise ValueError(
            f"engine.args.{next(iter(given))}: this vLLM has no usable parsers: {'; '.join(absent)}"
        )
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    managers: dict[str, Any] = {
        "tool_call_parser": ToolParserManager,
        "reasoning_parser": ReasoningParserManager,
    }
    for argument, name in given.items():
        known = managers[argument].list_registered()
        if name not in known:
            raise ValueError(
                f"engine.args.{argument}: this vLLM has no parser `{name}`; it has {', '.join(sorted(known))}"
            )


class Parsers:
    """The parsers of one endpoint.

    Args:
        tool_call_parser: vLLM's name of one, or None.
        reasoning_parser: the same.
        tokenizer: of the model.
        model_config: vLLM's.

    Raises:
        ValueError: a parser does not work with this tokenizer.
    """

    def __init__(
        self, tool_call_parser: str | None, reasoning_parser: str | None, tokenizer: Any, model_config: Any
    ) -> None:
        self._tokenizer = tokenizer
        self._options: dict[str, Any] = {}
        self._parser: Any = None
        self.tools = bool(tool_call_parser)
        self.reasoning = bool(reasoning_parser)
        if not (self.tools or self.reasoning):
            return
        from vllm.parser import Parser, ParserManager

        if "model_config" in inspect.signature(Parser.__init__).parameters:
            self._options["model_config"] = model_config
        self._parser = ParserManager.get_parser(
            tool_parser_name=tool_call_parser or None,
            reasoning_parser_name=reasoning_parser or None,
            enable_auto_tools=self.tools,
            model_name=getattr(model_config, "model", None),
        )
        try:
            self._make(None, {})
        except Exception as error:
            names = " and ".join(
                f"engine.args.{argument}: {name}"
                for argument, name in (
                    ("tool_call_parser", tool_call_parser),
                    ("reasoning_parser", reasoning_parser),
                )
                if name
            )
            raise ValueError(f"{names}: does not work with this model's tokenizer: {error}") from error

    def conversation(self, chat: dict[str, Any], sampling: dict[str, Any], choices: int) -> Conversation:
        """What the options of a conversation mean for its prompt, its sampling and its answer.

        Args:
            chat: see `conversations.ChatOptions`.
            sampling: the parameters of vLLM's `SamplingParams` that are given.
            choices: number of answers.

        Raises:
            RequestError: `invalid_argument`: something that needs a parser that the endpoint does not have.
        """
        choice = chat.get("tool_choice") or ("auto" if chat.get("tools") else "none")
        if not self.tools:
            conversations.refuse_tools(
                chat,
                "this endpoint, which has no `engine.args.tool_call_parser`; its value depends on the model, such as"
                " hermes or llama3_json",
            )
        variables = prompts.variables(chat)
        tools = chat.get("tools")
        if not tools and not self.reasoning:
            return Conversation.plain(sampling, tools, variables)
        request = _request(chat, choice, sampling)
        if tools:
            # With the fields that vLLM's server shows to templates.
            tools = [tool.model_dump() for tool in request.tools]
        engine_options: dict[str, Any] = {}
        parsers = []
        if self._parser is not None:
            calls = bool(tools) and choice != "none"
            parsers = [_Choice(lambda: self._make(request.tools, variables), calls) for _ in range(choices)]
            if self.reasoning or choice != "none":
                # As vLLM's server does: required and named calls become structured outputs.
                request = self._make(request.tools, variables).adjust_request(request)
                given = {name: getattr(request, name) for name in _ADJUSTED}
                sampling = sampling | {name: value for name, value in given.items() if value is not None}
            if self.reasoning:
                engine_options["reasoning_parser_kwargs"] = {"chat_template_kwargs": variables}
            if getattr(request, "_grammar_from_parser", False):
                # Mistral's grammar has the reasoning in it.
                engine_options["reasoning_ended"] = True
        named = isinstance(choice, dict)
        return Conversation(tools, variables, sampling, engine_options, parsers, request, named)

    def _make(self, tools: Any, variables: dict[str, Any]) -> Any:
        return self._parser(self._tokenizer, tools, chat_template_kwargs=variables, **self._options)


@dataclasses.dataclass(slots=True)
class Conversation:
    """One request.

    Args:
        tools: for the template.
        variables: for the template.
        sampling: parameters of vLLM's `SamplingParams`.
        engine_options: further arguments of `AsyncLLM.add_request`.
        parsers: one for each choice; empty if the answer is plain text.
        request: what the parsers are told.
        named: whether the call of a certain function was asked for; as in OpenAI's API, its finish reason is `stop`.
    """

    tools: list[dict[str, Any]] | None
    variables: dict[str, Any]
    sampling: dict[str, Any]
    engine_options: dict[str, Any]
    parsers: list[_Choice]
    request: Any
    named: bool

    @classmethod
    def plain(
        cls,
        sampling: dict[str, Any],
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
    ) -> Conversation:
        """One of which the answer is text and nothing else."""
        return cls(tools, variables or {}, sampling, {}, [], None, False)

    @property
    def hides_reasoning(self) -> bool:
        """Whether the reasoning is dropped, and with it what would reveal its tokens."""
        return bool(self.parsers) and not self.request.include_reasoning

    def feed(
        self, choice: int, text: str, token_ids: list[int], prompt_ids: list[int], ended: str | None = None
    ) -> Delta:
        """What new text of a choice is.

        Args:
            choice: its index.
            text: new text of the engine.
            token_ids: its tokens.
            prompt_ids: the tokens of the prompt, which can open the reasoning.
            ended: the finish reason of the engine if nothing follows, such as `stop`.
        """
        return self.parsers[choice].feed(self.request, text, token_ids, prompt_ids, ended)

    def finish_reason(self, choice: int, reason: str) -> str:
        """The finish reason of a choice: a complete call has its own."""
        return "tool_calls" if reason == "stop" and self.parsers[choice].called and not self.named else reason


class _Choice:
    """One choice's parser.

    Args:
        make: makes a parser.
        calls: whether the choice can have tool calls.
    """

    def __init__(self, make: Callable[[], Any], calls: bool) -> None:
        self._make = make
        self._parser = make()
        self._calls = calls
        self._text = self._sent = ""
        self._token_ids: list[int] = []
        self.called = False

    def feed(
        self, request: Any, text: str, token_ids: list[int], prompt_ids: list[int], ended: str | None
    ) -> Delta:
        """See `Conversation.feed`."""
        delta = self._parse(request, text, token_ids, prompt_ids, ended == "stop")
        if ended not in (None, "stop") and not (self.called or delta.tool_calls):
            # workaround: W23
            # The rest of the text. Not in a call: vLLM would complete the JSON of what the model has not completed.
            rest = self._parse(request, "", [], prompt_ids, True)
            delta.text += rest.text
            delta.reasoning += rest.reasoning
        if self._calls and not self.called:
            self._text += text
            self._token_ids += token_ids
            self._sent += delta.text
            self.called = bool(delta.tool_calls)
            # workaround: W22
            if ended == "stop" and not self.called:
                self._complete(request, delta)
        return delta

    def _parse(
        self, request: Any, text: str, token_ids: list[int], prompt_ids: list[int], finished: bool
    ) -> Delta:
        message = self._parser.parse_delta(
            delta_text=text,
            delta_token_ids=token_ids,
            request=request,
            prompt_token_ids=prompt_ids,
            finished=finished,
        )
        if message is None:
            return Delta()
        calls = [call.model_dump(exclude_none=True) for call in message.tool_calls or []]
        return Delta(message.content or "", message.reasoning or "", calls)

    def _complete(self, request: Any, delta: Delta) -> None:
        """Adds what the parser has missed, by parsing the answer again as a whole.

        Some make nothing of a call of which all tokens come at once, or keep the start of what could have been one.
        """
        _, content, calls = self._make().parse(
            self._text, request, enable_auto_tools=True, model_output_token_ids=self._token_ids
        )
        content = content or ""
        if not content.startswith(self._sent):
            return
        delta.text += content[len(self._sent) :]
        delta.tool_calls = [
            {
                "index": index,
                "id": call.id or f"call_{secrets.token_hex(8)}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(calls or [])
        ]
        self.called = bool(calls)


def _request(chat: dict[str, Any], choice: Any, sampling: dict[str, Any]) -> Any:
    """What vLLM's parsers read of a request of its server.

    Raises:
        RequestError: `invalid_argument`: vLLM refuses the tools.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    fields: dict[str, Any] = {
        "messages": [],
        "include_reasoning": chat.get("include_reasoning", True),
        "parallel_tool_calls": chat.get("parallel_tool_calls", True),
    }
    if chat.get("tools"):
        fields |= {"tools": chat["tools"], "tool_choice": choice}
    if sampling.get("structured_outputs") is not None:
        fields["structured_outputs"] = sampling["structured_outputs"]
    for name in _ADJUSTED[1:]:
        if name in sampling:
            fields[name] = sampling[name]
    try:
        return ChatCompletionRequest(**fields)
    except ValueError as error:
        raise errors.RequestError("invalid_argument", "chat_options.tools", str(error)) from None


def _missing(module: str, name: str, parameters: tuple[str, ...]) -> str | None:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return f"{module}.{name} is missing"
    if not parameters:
        return None
    known = inspect.signature(found).parameters
    absent = [parameter for parameter in parameters if parameter not in known]
    return f"{module}.{name} has no parameter {', '.join(absent)}" if absent else None
