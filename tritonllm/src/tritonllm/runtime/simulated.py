"""An engine without weights: it invents its answers, at a speed that its arguments set.

For clusters without GPUs and for tests of everything around an engine. It makes tokens of four
characters, so that words arrive in pieces as they do from a real model.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
import zlib
from collections.abc import AsyncGenerator
from typing import Any

from tritonllm import errors, sampling, simulated_args
from tritonllm.runtime import backend

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


class SimulatedBackend:
    """See `backend.Backend`.

    Args:
        arguments: the content of `model.json`; see `simulated_args.SimulatedArgs`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._args = simulated_args.SimulatedArgs.model_validate(arguments)
        self.capacity = self._args.max_num_seqs
        self._places = asyncio.Semaphore(self.capacity)
        self._aborted: dict[str, asyncio.Event] = {}
        self._running = 0

    async def start(self) -> None:
        """Nothing to load.

        Raises:
            RuntimeError: `fail_to_load` asks for it.
        """
        if self._args.fail_to_load:
            raise RuntimeError(self._args.fail_to_load)

    async def close(self) -> None:
        """Nothing to end."""

    async def check(self) -> None:
        """Can't die alone."""

    async def abort(self, request_id: str) -> None:
        """Stops a request."""
        if request_id in self._aborted:
            self._aborted[request_id].set()

    def stats(self) -> backend.Stats:
        """Requests with a place, and the others."""
        running, size = self._running, len(self._aborted)
        return backend.Stats(running, max(0, size - running), min(1.0, running / self.capacity))

    async def generate(self, generation: backend.Generation) -> AsyncGenerator[backend.Update]:
        """Invents an answer, token by token."""
        prompt = generation.text if generation.messages is None else generation.messages[-1]["content"]
        assert prompt is not None
        field = "text_input" if generation.messages is None else "messages"
        input_tokens = self._count_input(generation, field)
        aborted = self._aborted[generation.id] = asyncio.Event()
        try:
            async with self._places:
                self._running += 1
                try:
                    async for update in self._answer(generation.sampling, prompt, input_tokens, aborted):
                        yield update
                finally:
                    self._running -= 1
        finally:
            del self._aborted[generation.id]

    async def _answer(
        self, wanted: sampling.SamplingParameters, prompt: str, input_tokens: int, aborted: asyncio.Event
    ) -> AsyncGenerator[backend.Update]:
        n = wanted.n or 1
        most = min(wanted.max_tokens or sampling.DEFAULT_MAX_TOKENS, self._args.max_model_len - input_tokens)
        answers = [_Tokens(self._text(wanted, prompt, choice), most, wanted) for choice in range(n)]
        due = time.monotonic() + self._args.time_to_first_token_seconds
        while not all(answer.finish_reason for answer in answers):
            await _sleep_until(due, aborted)
            due += self._args.inter_token_seconds
            if self._args.fail_on and self._args.fail_on in prompt and answers[0].made >= 3:
                raise errors.RequestError(
                    "engine_failure", "", "the simulated engine fails on this prompt, as it was told"
                )
            before = [answer.made for answer in answers]
            texts = [answer.next(aborted.is_set()) for answer in answers]
            yield backend.Update(
                texts=texts,
                finish_reasons=[answer.finish_reason for answer in answers],
                input_tokens=input_tokens,
                output_tokens=[answer.made - made for answer, made in zip(answers, before, strict=True)],
            )

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

    def next(self, aborted: bool) -> str:
        """The next token; sets `finish_reason` with the last."""
        if self.finish_reason is not None:
            return ""
        if aborted:
            self.finish_reason = "cancelled"
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


async def _sleep_until(due: float, aborted: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(aborted.wait(), max(0.0, due - time.monotonic()))
    # With no time between tokens, others still get their turn.
    await asyncio.sleep(0)
