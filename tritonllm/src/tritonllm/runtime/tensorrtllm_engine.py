"""The backend that generates text with TensorRT-LLM: a thin layer around the asynchronous part of its LLM API.

TensorRT-LLM is imported when the engine starts, not with this module. Only what its documentation promises is used:
https://nvidia.github.io/TensorRT-LLM/llm-api/reference.html
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Callable
from typing import Any

from tritonllm import errors, sampling
from tritonllm.engines.tensorrtllm import TensorRTLLMArgs
from tritonllm.runtime import backend, conversations, model_json, prompts, request_tasks

log = logging.getLogger(__name__)

_FINISH_REASONS = {"stop": "stop", "length": "length", "cancelled": "cancelled", "timeout": "cancelled"}
# Sampling parameters that TensorRT-LLM's `SamplingParams` has under the same name; others are translated or refused.
_SAME = {
    "n",
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "skip_special_tokens",
    "logprobs",
}
_RENAMED = {"bad_words": "bad"}


class TensorRTLLMBackend(backend.Backend):
    """See `backend.Backend`.

    Args:
        arguments: the content of `model.json`: the directory `model`, those of `TensorRTLLMArgs`, and `prompt`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._model = model_json.read(arguments)
        self._args = TensorRTLLMArgs.model_validate(self._model.args)
        self._requests = request_tasks.RequestTasks()
        self._steps = 0

    async def start(self) -> None:
        """Loads the weights, which blocks the event loop until it is done.

        Raises:
            ValueError: the endpoint asks for a chat template that there is not, or the model does not say its context.
        """
        # Weights are on disk before an engine starts: it neither downloads anything nor reports usage.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRTLLM_NO_USAGE_STATS", "1")
        import transformers

        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            self._model.weights, trust_remote_code=self._model.trust_remote_code
        )
        self.max_model_len = self._args.max_seq_len or self._context()
        self._tokenizer.max_chars_per_token = max(map(len, self._tokenizer.get_vocab()))
        self._prompt_tokenizer = prompts.PromptTokenizer(self._tokenizer, self.max_model_len)
        self._prompt_tokenizer.check(self._model.prompt)
        given = self._args.model_dump(exclude_none=True, exclude_unset=True)
        self._engine = _library().LLM(
            model=self._model.weights,
            trust_remote_code=self._model.trust_remote_code,
            **(given | {"max_batch_size": self._args.max_batch_size, "max_seq_len": self.max_model_len}),
        )

    def submit(
        self,
        generation: backend.Generation,
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Generates text."""
        self._requests.start(generation.id, self._run(generation), on_update, on_error)

    def abort(self, request_id: str) -> None:
        """Ends a request."""
        self._requests.abort(request_id)

    async def close(self) -> None:
        """Ends TensorRT-LLM and its processes."""
        await self._requests.close()
        self._prompt_tokenizer.close()
        self._engine.shutdown()

    def stats(self) -> backend.Stats:
        """Requests, by which those beyond the batch wait. How full the KV cache is, is not asked."""
        running = min(len(self._requests), self._args.max_batch_size)
        return backend.Stats(running, len(self._requests) - running, 0.0, self._steps)

    async def check(self) -> None:
        """An engine that has died makes no steps."""

    def _context(self) -> int:
        import transformers

        config = transformers.AutoConfig.from_pretrained(
            self._model.weights, trust_remote_code=self._model.trust_remote_code
        )
        found = getattr(config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(found, int):
            raise ValueError(
                "the model does not say the length of its context; set `engine.args.max_seq_len`"
            )
        return found

    async def _run(self, generation: backend.Generation) -> None:
        result: Any = None
        try:
            ids = await self._tokens(generation)
            progress = _Progress(self._tokenizer, len(ids), generation.sampling.n or 1)
            result = self._generate(ids, generation.sampling)
            async for output in result:
                self._steps += 1
                update = progress.update(output)
                self._requests.update(generation.id, update)
                if update.finished:
                    return
            raise RuntimeError("it ended before the answer was complete")
        except asyncio.CancelledError:
            if result is not None:
                result.abort()
            raise
        except errors.RequestError as error:
            self._requests.fail(generation.id, error)
        except Exception as error:
            log.exception("a request failed in the engine")
            message = f"TensorRT-LLM failed on this request: {error!r}"
            self._requests.fail(generation.id, errors.RequestError("engine_failure", "", message))

    async def _tokens(self, generation: backend.Generation) -> list[int]:
        chat = generation.chat
        conversations.refuse_tools(chat, "engine type tensorrtllm")
        return await self._prompt_tokenizer.tokens(
            generation.text, generation.messages, chat.get("tools"), prompts.variables(chat)
        )

    def _generate(self, ids: list[int], wanted: sampling.SamplingParameters) -> Any:
        try:
            return self._engine.generate_async(ids, self._sampling_params(wanted), streaming=True)
        except ValueError as error:
            # How its API refuses parameters.
            raise conversations.invalid("sampling_parameters", str(error)) from None

    def _sampling_params(self, wanted: sampling.SamplingParameters) -> Any:
        """A request's parameters as TensorRT-LLM's `SamplingParams`.

        Raises:
            RequestError: `invalid_argument`: it has no such parameter.
        """
        given = wanted.given()
        given.setdefault("max_tokens", sampling.DEFAULT_MAX_TOKENS)
        structured = given.pop("structured_outputs", None)
        found = {name: given.pop(name) for name in list(given) if name in _SAME}
        found |= {theirs: given.pop(ours) for ours, theirs in _RENAMED.items() if ours in given}
        for name in given:
            raise conversations.invalid(f"sampling_parameters.{name}", "is not supported by TensorRT-LLM")
        if found.get("temperature") == 0:
            # It divides by the temperature; the most likely token is the first of one.
            del found["temperature"]
            found["top_k"] = 1
        elif found.get("top_k") == -1:
            found["top_k"] = 0
        if "logprobs" in found:
            # It returns none for 0; the generated token is always among them.
            found["logprobs"] = max(1, found["logprobs"])
        if structured is not None:
            found["guided_decoding"] = self._guided(structured)
        return _library().SamplingParams(**found)

    def _guided(self, structured: dict[str, Any]) -> Any:
        field = "sampling_parameters.structured_outputs"
        if self._args.guided_decoding_backend is None:
            raise conversations.invalid(
                field,
                "are not supported by this endpoint, which has no `engine.args.guided_decoding_backend`",
            )
        if "choice" in structured:
            raise conversations.invalid(field, "can't have `choice` with TensorRT-LLM; use `regex`")
        return _library("tensorrt_llm.llmapi").GuidedDecodingParams(**structured)


def _library(name: str = "tensorrt_llm") -> Any:
    """TensorRT-LLM, which is not installed where this project is developed."""
    return importlib.import_module(name)


class _Progress:
    """One request's outputs, which hold everything so far, as updates.

    Args:
        tokenizer: of the model.
        input_tokens: number of tokens of the prompt.
        n: number of choices.
    """

    def __init__(self, tokenizer: Any, input_tokens: int, n: int) -> None:
        self._tokenizer = tokenizer
        self._input_tokens = input_tokens
        self._n = n
        self._characters = [0] * n
        self._tokens = [0] * n
        self._positions = [0] * n
        self._cumulative = [0.0] * n

    def update(self, output: Any) -> backend.Update:
        """What is new in a `RequestOutput`."""
        n = self._n
        update = backend.Update([""] * n, [None] * n, self._input_tokens, [0] * n)
        for completion in output.outputs:
            index = completion.index
            update.texts[index] = completion.text[self._characters[index] :]
            # Neither becomes shorter for us when a stop sequence is taken away at the end.
            self._characters[index] = max(self._characters[index], len(completion.text))
            update.output_tokens[index] = max(0, len(completion.token_ids) - self._tokens[index])
            if completion.logprobs:
                self._take_logprobs(completion, update)
            self._tokens[index] += update.output_tokens[index]
            if completion.finish_reason is not None:
                update.finish_reasons[index] = _FINISH_REASONS[completion.finish_reason]
        return update

    def _take_logprobs(self, completion: Any, update: backend.Update) -> None:
        index = completion.index
        start = self._positions[index]
        new = completion.logprobs[start : len(completion.token_ids)]
        self._positions[index] += len(new)
        positions = zip(completion.token_ids[start:], new, strict=False)
        update.logprobs = update.logprobs or [[] for _ in range(self._n)]
        update.logprobs[index] = [self._position(token, found) for token, found in positions]
        self._cumulative[index] += sum(
            found[token].logprob for token, found in zip(completion.token_ids[start:], new, strict=False)
        )
        update.cumulative_logprobs = list(self._cumulative)

    def _position(self, generated: int, found: dict[int, Any]) -> dict[int, dict[str, Any]]:
        """The log probabilities of one token, the generated one first."""
        tokens = [generated, *(token for token in found if token != generated)]
        return {
            token: {
                "logprob": found[token].logprob,
                "rank": found[token].rank,
                "decoded_token": self._tokenizer.decode([token]),
            }
            for token in tokens
        }
