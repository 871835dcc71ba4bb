"""An engine without weights: it invents its answers, at a speed that its arguments set.

For clusters without GPUs and for tests of everything around an engine. It makes tokens of four
characters, so that words arrive in pieces as they do from a real model. It calls a function that a prompt names, and
its arguments and structured outputs fit their JSON schemas.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import random
import re
import secrets
import time
import zlib
from collections.abc import Callable
from typing import Any

from tritonllm import errors, sampling
from tritonllm.engines.simulated import SimulatedArgs
from tritonllm.runtime import backend, conversations, simulated_values

TOKEN_CHARACTERS = 4

_WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
]
_SHORTEST_ANSWER_WORDS, _LONGEST_ANSWER_WORDS = 12, 48
_LONG_WORD = 5
# However long a token takes, the engine is seen to be alive.
_LONGEST_STEP_SECONDS = 1.0


class SimulatedBackend(backend.Backend):
    """See `backend.Backend`.

    Args:
        arguments: the content of `model.json`; see `SimulatedArgs`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._args = SimulatedArgs.model_validate(arguments)
        self.max_model_len = self._args.max_model_len
        self._live: dict[str, _Answering] = {}
        self._steps = 0
        self._stepping: asyncio.Task[None] | None = None
        self._submitted = asyncio.Event()

    async def start(self) -> None:
        """Nothing to load.

        Raises:
            RuntimeError: `fail_to_load` is set.
        """
        await asyncio.sleep(self._args.load_seconds)
        if self._args.fail_to_load:
            raise RuntimeError(self._args.fail_to_load)

    async def close(self) -> None:
        """Drops the requests that are still live."""
        self._live.clear()
        if self._stepping is not None:
            self._stepping.cancel()

    async def check(self) -> None:
        """Can't die alone.

        Raises:
            RuntimeError: the task that generates has failed.
        """
        if self._stepping is not None and self._stepping.done():
            self._stepping.result()

    def abort(self, request_id: str) -> None:
        """Ends a request."""
        self._live.pop(request_id, None)

    def stats(self) -> backend.Stats:
        """The first `max_num_seqs` requests run, the others wait."""
        running = min(len(self._live), self._args.max_num_seqs)
        usage = running / self._args.max_num_seqs
        return backend.Stats(running, len(self._live) - running, usage, self._steps)

    def submit(
        self,
        generation: backend.Generation,
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Invents an answer, token by token."""
        prompt = generation.text if generation.messages is None else generation.messages[-1]["content"]
        assert prompt is not None
        field = "text_input" if generation.messages is None else "messages"
        wanted = generation.sampling
        try:
            structured = _structured(wanted, prompt)
            called = _called(generation.chat, prompt)
            arguments = _arguments(called, prompt) if called else ""
            input_tokens = self._count_input(generation, field)
        except errors.RequestError as error:
            on_error(error)
            return
        most = min(wanted.max_tokens or sampling.DEFAULT_MAX_TOKENS, self._args.max_model_len - input_tokens)
        reason = "stop" if isinstance(generation.chat.get("tool_choice"), dict) else "tool_calls"
        choices = [
            _ToolCall(called["name"], arguments, most, wanted, reason)
            if called
            else _Tokens(structured or self._text(wanted, prompt, choice), most, wanted)
            for choice in range(wanted.n or 1)
        ]
        fails = bool(self._args.fail_on) and self._args.fail_on in prompt
        self._live[generation.id] = _Answering(
            choices, input_tokens, fails, called is not None, on_update, on_error
        )
        self._submitted.set()
        if self._stepping is None:
            self._stepping = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Steps through the running batch, as a real engine does: one pass makes a token for each."""
        while True:
            self._steps += 1
            now = time.monotonic()
            running = [
                item
                for item, _ in zip(list(self._live.items()), range(self._args.max_num_seqs), strict=False)
            ]
            for request_id, answering in running:
                if answering.due is None:
                    answering.due = now + self._args.time_to_first_token_seconds
                if answering.due <= now:
                    answering.due = self._next_step(now)
                    self._step(request_id, answering)
            dues = [answering.due for _, answering in running if answering.due is not None]
            self._submitted.clear()
            if self._live:
                await self._sleep(max(0.0, min(dues, default=now) - time.monotonic()))
            else:
                await self._submitted.wait()

    def _next_step(self, now: float) -> float:
        """When the next token is due: at the same moments for all requests, as in a batch."""
        between = self._args.inter_token_seconds
        return (now // between + 1) * between if between else now

    async def _sleep(self, seconds: float) -> None:
        """Waits for the next token that is due, or for a new request."""
        if seconds <= 0:
            # With no time between tokens, others still get their turn.
            await asyncio.sleep(0)
            return
        try:
            await asyncio.wait_for(self._submitted.wait(), min(seconds, _LONGEST_STEP_SECONDS))
        except TimeoutError:
            return

    def _step(self, request_id: str, answering: _Answering) -> None:
        choices = answering.choices
        if answering.fails and choices[0].made >= 3:
            del self._live[request_id]
            answering.on_error(
                errors.RequestError(
                    "engine_failure", "", "the simulated engine fails on this prompt, as it was told"
                )
            )
            return
        before = [choice.made for choice in choices]
        update = backend.Update(
            texts=[choice.next() for choice in choices],
            finish_reasons=[choice.finish_reason for choice in choices],
            input_tokens=answering.input_tokens,
            output_tokens=[choice.made - made for choice, made in zip(choices, before, strict=True)],
            tool_calls=[choice.take_calls() for choice in choices] if answering.calls else None,
        )
        if update.finished:
            del self._live[request_id]
        answering.on_update(update)

    def _count_input(self, generation: backend.Generation, field: str) -> int:
        texts = [generation.text or ""] + [turn["content"] for turn in generation.messages or []]
        tokens = math.ceil(sum(len(text) for text in texts) / TOKEN_CHARACTERS)
        if tokens >= self._args.max_model_len:
            raise errors.RequestError(
                "invalid_argument",
                field,
                f"{tokens} tokens, but the model's context is {self._args.max_model_len}; shorten the prompt",
            )
        return tokens

    def _text(self, wanted: sampling.SamplingParameters, prompt: str, choice: int) -> str:
        if self._args.reply == "echo":
            return prompt
        seed = self._args.seed if wanted.seed is None else wanted.seed
        rng = random.Random(zlib.crc32(f"{seed} {choice} {prompt}".encode()))
        words = rng.choices(_WORDS, k=rng.randint(_SHORTEST_ANSWER_WORDS, _LONGEST_ANSWER_WORDS))
        return " ".join(words)


@dataclasses.dataclass(slots=True)
class _Answering:
    """A live request; `due` is when its next token is, once it runs."""

    choices: list[_Tokens]
    input_tokens: int
    fails: bool
    calls: bool
    on_update: Callable[[backend.Update], None]
    on_error: Callable[[errors.RequestError], None]
    due: float | None = None


def _structured(wanted: sampling.SamplingParameters, prompt: str) -> str | None:
    """The answer in the form that was asked for; None if any text will do.

    Raises:
        RequestError: `invalid_argument`: the form is not a JSON schema or a choice.
    """
    given = wanted.structured_outputs
    if given is None:
        return None
    if given.get("choice"):
        return given["choice"][0]
    if given.get("json_object"):
        return json.dumps({"text": prompt})
    field = "sampling_parameters.structured_outputs"
    if (schema := given.get("json")) is None:
        raise conversations.invalid(
            field, "can only have `json`, `json_object` or `choice` in the simulated engine"
        )
    if isinstance(schema, str):
        schema = conversations.parse_json(field, schema)
    return _invented(schema, prompt, field)


def _invented(schema: Any, prompt: str, field: str) -> str:
    """JSON that fits a schema.

    Raises:
        RequestError: `invalid_argument`: it is no schema, or one that needs too much.
    """
    try:
        return json.dumps(simulated_values.value(schema, prompt), ensure_ascii=False)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise conversations.invalid(
            field, f"has a JSON schema that the simulated engine can't follow: {error}"
        ) from None


def _arguments(function: dict[str, Any], prompt: str) -> str:
    """The arguments of a call, as JSON; of a function without a schema, the prompt."""
    schema = function.get("parameters") or {}
    if "properties" not in schema:
        return json.dumps({"text": prompt}, ensure_ascii=False)
    return _invented(schema, prompt, "chat_options.tools")


def _called(chat: dict[str, Any], prompt: str) -> dict[str, Any] | None:
    """The function to call: one that has to be called, or whose name or a long word of it is in the prompt."""
    choice = chat.get("tool_choice", "auto")
    functions = [tool["function"] for tool in chat.get("tools", [])]
    if isinstance(choice, dict):
        return next(each for each in functions if each["name"] == choice["function"]["name"])
    if choice == "required":
        return functions[0]
    return (
        next((each for each in functions if _names(prompt, each["name"])), None) if choice == "auto" else None
    )


def _names(prompt: str, function: str) -> bool:
    words = re.split(r"[_-]", function)
    return function in prompt or any(len(word) >= _LONG_WORD and word in prompt for word in words)


class _Tokens:
    """One answer as a sequence of tokens."""

    def __init__(self, text: str, most: int, wanted: sampling.SamplingParameters) -> None:
        self.made = 0
        self.finish_reason: str | None = None
        self._most = most
        stops = [wanted.stop] if isinstance(wanted.stop, str) else wanted.stop or []
        ends = [index for index in (text.find(stop) for stop in stops) if index >= 0]
        self._text = text[: min(ends)] if ends else text
        self._endless = bool(wanted.ignore_eos) and not ends

    def take_calls(self) -> list[dict[str, Any]]:
        """The deltas of tool calls that the latest token has made."""
        return []

    def next(self) -> str:
        """The next token; sets `finish_reason` with the last."""
        if self.finish_reason is not None:
            return ""
        start = self.made * TOKEN_CHARACTERS
        end = start + TOKEN_CHARACTERS
        text = self._text[start:end]
        if self._endless:
            start %= max(1, len(self._text))
            text = (self._text[start:] + self._text)[:TOKEN_CHARACTERS]
        self.made += 1
        if not self._endless and end >= len(self._text):
            self.finish_reason = "stop"
        elif self.made >= self._most:
            self.finish_reason = "length"
        return text


class _ToolCall(_Tokens):
    """A call of a function, its arguments as a sequence of tokens.

    Its finish reason is `stop` if it is the call of a function that was asked for by name, as with vLLM.
    """

    def __init__(
        self, name: str, arguments: str, most: int, wanted: sampling.SamplingParameters, reason: str
    ) -> None:
        super().__init__(arguments, most, wanted)
        self._reason = reason
        start = {"index": 0, "id": f"call_{secrets.token_hex(8)}", "type": "function"}
        self._deltas = [start | {"function": {"name": name, "arguments": ""}}]

    def take_calls(self) -> list[dict[str, Any]]:
        """See `_Tokens`."""
        deltas, self._deltas = self._deltas, []
        return deltas

    def next(self) -> str:
        """The next token, which is part of the arguments and not of the text."""
        if piece := super().next():
            self._deltas.append({"index": 0, "function": {"arguments": piece}})
        if self.finish_reason == "stop":
            self.finish_reason = self._reason
        return ""
