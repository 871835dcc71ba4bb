"""The backend that generates text with transformers: any causal model, for comparison with faster engines.

Prompts are made in the engine model's event loop, tokens in the thread of a `Batcher`. torch and transformers are imported
when it starts, not with this module, so that the command line stays quick.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tritonllm import errors, sampling
from tritonllm.engines.transformers import TransformersArgs
from tritonllm.runtime import backend, conversations, model_json, prompts, threads, token_bounds

if TYPE_CHECKING:
    from tritonllm.runtime import batcher, transformers_model

log = logging.getLogger(__name__)

_SHUTDOWN_SECONDS = 10.0


class TransformersBackend(backend.Backend):
    """See `backend.Backend`.

    Args:
        arguments: the content of `model.json`: `TransformersArgs`, with `model` a directory, `trust_remote_code`, and
            `prompt` as `spec.prompt` was given.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._model = model_json.read(arguments)
        self._args = TransformersArgs.model_validate(self._model.args)
        self._live: dict[str, _Live] = {}
        self._loaded: transformers_model.Loaded
        self._batcher: batcher.Batcher
        self._thread: threading.Thread

    async def start(self) -> None:
        """Loads the weights and starts the batcher's thread.

        Raises:
            ValueError: the model does not fit the endpoint.
        """
        from tritonllm.runtime import batcher, transformers_model

        loop = asyncio.get_running_loop()
        self._loaded = transformers_model.load(
            self._model.weights, trust_remote_code=self._model.trust_remote_code, args=self._args
        )
        self.max_model_len = self._loaded.context
        self._tokenizer = prompts.PromptTokenizer(
            self._loaded.tokenizer, self._loaded.context, self._args.chat_template
        )
        self._tokenizer.check(self._model.prompt)
        self._batcher = batcher.Batcher(
            self._loaded.model,
            max_sequences=self._args.max_num_seqs,
            max_tokens=self._loaded.cache_tokens,
            deliver=functools.partial(loop.call_soon_threadsafe, self._deliver),
            fail=functools.partial(loop.call_soon_threadsafe, self._fail_all),
        )
        self._thread = threads.start("batcher", self._batcher.run)

    def submit(
        self,
        generation: backend.Generation,
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Generates text."""
        live = _Live(on_update, on_error, generation.sampling.n or 1)
        self._live[generation.id] = live
        live.task = asyncio.get_running_loop().create_task(self._submit(generation))

    def abort(self, request_id: str) -> None:
        """Ends a request."""
        if self._live.pop(request_id, None) is not None:
            self._batcher.abort(request_id)

    async def close(self) -> None:
        """Ends the thread after its current step."""
        self._live.clear()
        self._tokenizer.close()
        self._batcher.close()
        await asyncio.to_thread(self._thread.join, _SHUTDOWN_SECONDS)

    def stats(self) -> backend.Stats:
        """How busy the batcher is: a request runs from its first token on."""
        running = sum(live.choices for live in self._live.values() if live.started)
        waiting = sum(live.choices for live in self._live.values()) - running
        used = self._batcher.used if self._live else 0.0
        return backend.Stats(running, waiting, used, self._batcher.steps)

    async def check(self) -> None:
        """Raises what ended the batcher."""
        if self._batcher.failure is not None:
            raise self._batcher.failure

    async def _submit(self, generation: backend.Generation) -> None:
        try:
            request = await self._request(generation)
        except errors.RequestError as error:
            self._fail(generation.id, error)
            return
        except Exception as error:
            log.exception("a request could not be prepared")
            self._fail(
                generation.id,
                errors.RequestError("engine_failure", "", f"the engine failed on this request: {error!r}"),
            )
            return
        if self._batcher.failure is not None:
            self._fail(generation.id, _failed())
        elif generation.id in self._live:
            self._batcher.submit(request)

    async def _request(self, generation: backend.Generation) -> batcher.Request:
        """A request for the batcher.

        Raises:
            RequestError: `invalid_argument`: it can't be fulfilled.
        """
        from tritonllm.runtime import answer_text, batcher, token_sampling

        loaded = self._loaded
        given: dict[str, Any] = (
            {"max_tokens": sampling.DEFAULT_MAX_TOKENS} | loaded.advised | generation.sampling.given()
        )
        _refuse_unsupported(generation)
        self._check_tokens(given)
        prompt = await self._tokenizer.tokens(
            generation.text,
            generation.messages,
            generation.chat.get("tools"),
            prompts.variables(generation.chat),
        )
        if max(prompt) >= loaded.vocabulary:
            # Its tokenizer has more tokens than the model, whose table of embeddings ends there.
            field = "text_input" if generation.messages is None else "messages"
            raise conversations.invalid(field, "has a token that the model does not know; remove it")
        most = min(given["max_tokens"], loaded.context - len(prompt))
        choices = given.get("n", 1)
        self._check_size(choices, len(prompt) + most)
        ends = set() if given.get("ignore_eos") else loaded.stop_tokens
        stop_tokens = {*ends, *given.get("stop_token_ids", ())}
        decode = functools.partial(
            loaded.tokenizer.decode,
            skip_special_tokens=given.get("skip_special_tokens", True),
            clean_up_tokenization_spaces=False,
        )
        stop = given.get("stop", [])
        bad_words = self._bad_words(given.get("bad_words", ()))
        return batcher.Request(
            generation.id,
            prompt,
            [
                batcher.Choice(
                    token_sampling.Sampler(
                        given,
                        choice=choice,
                        prompt_tokens=len(prompt),
                        stop_tokens=stop_tokens,
                        bad_words=bad_words,
                        device=loaded.model.device,
                    ),
                    answer_text.AnswerText(
                        decode,
                        prompt,
                        stop=[stop] if isinstance(stop, str) else stop,
                        include_stop=given.get("include_stop_str_in_output", False),
                        min_tokens=given.get("min_tokens", 0),
                    ),
                    list(prompt),
                )
                for choice in range(choices)
            ],
            max_tokens=most,
            stop_tokens=stop_tokens,
            include_stop=given.get("include_stop_str_in_output", False),
            decode=functools.partial(loaded.tokenizer.decode, clean_up_tokenization_spaces=False),
            logprobs=given.get("logprobs"),
        )

    def _check_tokens(self, given: dict[str, Any]) -> None:
        token_bounds.check(given, self._loaded.vocabulary)
        least, most = given.get("min_tokens", 0), given["max_tokens"]
        if least > most:
            raise conversations.invalid(
                "sampling_parameters.min_tokens", f"must be at most `max_tokens`, {most}, got {least}"
            )

    def _bad_words(self, words: Sequence[str]) -> list[list[int]]:
        """The token ids of words that must not be generated, also those of a word after a space, as in vLLM."""
        found: list[list[int]] = []
        for word in words:
            for text in (word, " " + word.lstrip()):
                ids = self._loaded.tokenizer.encode(text, add_special_tokens=False)
                # What the model does not know it does not generate.
                if ids and ids not in found and max(ids) < self._loaded.vocabulary:
                    found.append(ids)
        return found

    def _check_size(self, choices: int, length: int) -> None:
        """Refuses what would wait for ever."""
        field = "sampling_parameters.n"
        if choices > self._args.max_num_seqs:
            raise conversations.invalid(
                field,
                f"must be at most {self._args.max_num_seqs} (`engine.args.max_num_seqs`), got {choices}",
            )
        if choices * length > self._loaded.cache_tokens:
            raise conversations.invalid(
                field,
                f"{choices} answers of up to {length} tokens do not fit into the KV cache of {self._loaded.cache_tokens}"
                " tokens; lower `n` or `max_tokens`",
            )

    def _deliver(self, events: list[batcher.Event]) -> None:
        for request_id, update in events:
            live = self._live.get(request_id)
            if live is None:
                continue
            live.started = True
            if update.finished:
                del self._live[request_id]
            live.on_update(update)

    def _fail_all(self) -> None:
        for request_id in list(self._live):
            self._fail(request_id, _failed())

    def _fail(self, request_id: str, error: errors.RequestError) -> None:
        live = self._live.pop(request_id, None)
        if live is not None:
            live.on_error(error)


@dataclasses.dataclass(slots=True)
class _Live:
    """A request that has not ended; `started` when it has its first token."""

    on_update: Callable[[backend.Update], None]
    on_error: Callable[[errors.RequestError], None]
    choices: int
    task: asyncio.Task[None] | None = None
    started: bool = False


def _failed() -> errors.RequestError:
    return errors.RequestError(
        "engine_failure", "", "the engine has failed and is being restarted; try again later"
    )


def _refuse_unsupported(generation: backend.Generation) -> None:
    if generation.sampling.structured_outputs is not None:
        raise conversations.invalid(
            "sampling_parameters.structured_outputs", "is not supported by engine type transformers; use vllm"
        )
    conversations.refuse_tools(generation.chat, "engine type transformers; use vllm")
