"""What a model reads: text or a conversation to token ids, refused before it is too much work.

Called by the vLLM backend. The tokenizer is a real model's; nothing here needs vLLM. A conversation becomes the same
token ids as in vLLM's server, except where a caller wrote a control token (see `control_tokens`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from tritonllm import errors
from tritonllm.runtime import control_tokens, conversations

# A thread switch costs more than the work on anything shorter.
_INLINE_CHARACTERS = 2000
# `documents` is what templates for retrieval read; the other parameters of transformers are not for callers.
_FOR_CALLERS = {"documents"}


class PromptTokenizer:
    """Makes prompts for one model.

    Args:
        tokenizer: vLLM's, see `vllm.tokenizers.TokenizerLike`.
        context: maximum number of tokens of prompt and answer together.
        chat_template: used in place of the model's own.
    """

    def __init__(self, tokenizer: Any, context: int, chat_template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._context = context
        # Mistral's own tokenizer has none: its template is code, which makes tokens and not text of a conversation.
        self._has_templates = hasattr(tokenizer, "chat_template")
        self._template = chat_template
        own = getattr(tokenizer, "chat_template", None)
        # Several templates by name: of one for tools, and of one for all else.
        self._source = chat_template or (" ".join(own.values()) if isinstance(own, dict) else own)
        self._control = control_tokens.ControlTokens(tokenizer, self._source) if self._has_templates else None
        self._reserved = {
            "messages",
            *inspect.signature(tokenizer.apply_chat_template).parameters,
        } - _FOR_CALLERS
        # A longer text has too many tokens, whatever it says, and need not be tokenised to know.
        self._longest = context * tokenizer.max_chars_per_token
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._no_system: str | None = None

    def check(self, prompt: Mapping[str, Any]) -> None:
        """Tries the chat template, once, when the engine loads.

        Args:
            prompt: `spec.prompt` of the endpoint, as it was given.

        Raises:
            ValueError: the endpoint needs a template that the model does not have, or that takes no system message.
        """
        user, system = {"role": "user", "content": "Hello"}, prompt.get("system")
        if self._has_templates and self._source is None:
            if prompt.get("format") == "Chat":
                raise ValueError(
                    "spec.prompt.format: Chat needs a chat template, and this model has none; set "
                    "`engine.args.chat_template`, serve an instruct model, or use format: Raw"
                )
            return
        try:
            self._conversation([user], None, {})
        except Exception as error:
            raise ValueError(
                f"the chat template does not work: it refuses a user's message: {error}"
            ) from error
        try:
            self._conversation([{"role": "system", "content": system or "Be kind."}, user], None, {})
        except Exception as error:
            self._no_system = str(error)
            if system is not None:
                raise ValueError(
                    f"spec.prompt.system: this model's chat template takes no system message: {error}; remove it, or "
                    "set `engine.args.chat_template` to one that does"
                ) from error

    async def tokens(
        self,
        text: str | None,
        messages: list[dict[str, Any]] | None,
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
    ) -> list[int]:
        """The token ids of a prompt, with the special tokens that the model expects.

        A long one is worked on in a thread, so that everybody else's tokens keep flowing.

        Args:
            text: the prompt, or None.
            messages: the conversation that the model's chat template makes into a prompt, or None.
            tools: definitions of tools for the template.
            variables: further variables for the template; see `variables`.

        Raises:
            RequestError: `invalid_argument`: too long, empty, or not what the template takes.
        """
        field = "messages" if text is None else "text_input"
        parts = conversations.texts(messages or []) if text is None else [text]
        size = sum(len(part) for part in parts) + (len(json.dumps(tools)) if tools else 0)
        if size > self._longest:
            raise self._too_long(field, f"{size} characters")
        work = (text, messages, tools, variables or {})
        if size <= _INLINE_CHARACTERS:
            ids = self._tokenize(*work)
        else:
            loop = asyncio.get_running_loop()
            ids = await loop.run_in_executor(self._pool, self._tokenize, *work)
        if len(ids) >= self._context:
            raise self._too_long(field, f"{len(ids)} tokens")
        if not ids:
            raise errors.RequestError("invalid_argument", field, "is empty for this model; send a prompt")
        return ids

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _tokenize(
        self,
        text: str | None,
        messages: list[dict[str, Any]] | None,
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any],
    ) -> list[int]:
        if text is not None:
            return self._tokenizer.encode(text)
        reserved = sorted(self._reserved & variables.keys())
        if reserved:
            raise conversations.invalid(
                f"chat_options.chat_template_kwargs.{reserved[0]}", "is not a variable of a chat template"
            )
        if self._has_templates and self._source is None:
            raise conversations.invalid(
                "messages",
                "this model has no chat template; send the whole prompt as `text_input`, or serve an instruct model",
            )
        turns = messages or []
        systems = (
            (index, turn) for index, turn in enumerate(turns) if turn["role"] in ("system", "developer")
        )
        first = next(systems, None)
        if self._no_system is not None and first is not None:
            raise conversations.invalid(
                f"messages[{first[0]}].role",
                f"this model's chat template takes no {first[1]['role']} message: {self._no_system}; put it into the "
                "first message of the user",
            )
        try:
            return self._conversation(turns, tools, variables)
        except Exception as error:
            # Templates are programs that come with a model: `raise_exception` is how they say what they refuse,
            # and any other error in one is still about these messages.
            raise conversations.invalid(
                "messages", f"this model's chat template refuses them: {error}"
            ) from error

    def _conversation(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any],
    ) -> list[int]:
        given = {"tools": tools} | variables if tools else variables
        control = self._control
        if control is None:
            return self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, **given)
        mark = control.mark()
        models = [turn["role"] == "assistant" for turn in messages]

        def guard(field: str, text: str) -> str:
            index = field.removeprefix("messages[").partition("]")[0]
            own = index.isdigit() and models[int(index)]
            return control.guard(text, mark, models=own)

        def guard_id(text: str) -> str:
            return control.guard(text, mark)

        turns = [_for_template(turn, guard_id) for turn in conversations.map_messages(messages, guard)]
        given = conversations.map_options({"chat_template_kwargs": given}, guard)["chat_template_kwargs"]
        if self._template is not None:
            given["chat_template"] = self._template
        if not any(name in (self._source or "") for name in ("'developer'", '"developer"')):
            turns = _without_developers(turns)
        prompt = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **given
        )
        # The template has written the special tokens itself.
        parts = [self._tokenizer.encode(part, add_special_tokens=False) for part in prompt.split(mark)]
        return parts[0] if len(parts) == 1 else [token for part in parts for token in part]

    def _too_long(self, field: str, size: str) -> errors.RequestError:
        return errors.RequestError(
            "invalid_argument",
            field,
            f"{size}, but the model's context is {self._context}; shorten the prompt",
        )


def variables(chat: dict[str, Any]) -> dict[str, Any]:
    """What a template is told besides messages and tools, as in vLLM's server: there, too, an effort turns thinking on.

    Args:
        chat: see `conversations.ChatOptions`.
    """
    given = dict(chat.get("chat_template_kwargs", {}))
    effort = chat.get("reasoning_effort")
    if effort is not None:
        given.setdefault("enable_thinking", effort != "none")
        given["reasoning_effort"] = effort
    return given


def load_template(value: str | None) -> str | None:
    """The chat template of `engine.args.chat_template`: a text, or the path of a file.

    Raises:
        ValueError: the file can't be read.
    """
    if not value or "{" in value:
        return value or None
    try:
        with open(value, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"engine.args.chat_template: {value} can't be read: {error}") from None


def _for_template(turn: dict[str, Any], guard: Callable[[str], str]) -> dict[str, Any]:
    """A message as templates want it, and as vLLM's server hands it over.

    Arguments of calls are objects; what is no object, because a model has not completed it, becomes an empty one. The
    ids of calls are guarded; all else of a caller's is already.
    """
    turn = dict(turn)
    if "reasoning" in turn:
        # Templates know it by either name.
        turn["reasoning_content"] = turn["reasoning"]
    if "tool_call_id" in turn:
        turn["tool_call_id"] = guard(turn["tool_call_id"])
    if calls := turn.pop("tool_calls", None):
        turn["tool_calls"] = [
            {
                "id": guard(call["id"]),
                "type": call["type"],
                "function": call["function"] | {"arguments": _object(call["function"]["arguments"])},
            }
            for call in calls
        ]
    return turn


def _without_developers(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For a template that does not know developers: their messages are system messages, and all of those the first."""
    if not any(turn["role"] == "developer" for turn in turns):
        return turns
    systems = [turn["content"] for turn in turns if turn["role"] in ("system", "developer")]
    others = [turn for turn in turns if turn["role"] not in ("system", "developer")]
    return [{"role": "system", "content": "\n\n".join(text for text in systems if text)}, *others]


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
