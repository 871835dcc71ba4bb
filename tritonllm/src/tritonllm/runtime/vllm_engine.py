"""The backend that generates text with vLLM: a thin layer around `AsyncLLM`, for every vLLM from 0.24 on.

The engine model starts it in the thread that runs its event loop. vLLM and torch are imported when it
starts, not with this module, so that the command line stays quick.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import locale
import logging
import os
import re
from collections.abc import Callable
from typing import Any

from tritonllm import errors, sampling
from tritonllm.runtime import (
    backend,
    die_with_parent,
    prompts,
    shared_names,
    token_bounds,
    vllm_chat,
    vllm_requests,
)

log = logging.getLogger(__name__)

# vLLM's names for how a sequence ended; a repetition ends one only where vLLM's own configuration asks for it.
_FINISH_REASONS = {"stop": "stop", "length": "length", "abort": "cancelled", "repetition": "stop"}
# JSON has neither infinity, which is what a token that was made impossible gets, nor NaN. The value is that of vLLM's
# server.
_LEAST_LOGPROB = -9999.0
# Where in its own sources xgrammar has raised an error, which says nothing to callers.
_SOURCE = re.compile(r"\[[0-9:]+\] \S+:\d+: ")
# What vLLM makes of an error of one of its workers.
_PASSED_ON = re.compile(r"Worker failed with error [\"'](.*)[\"'], please check the stack trace", re.DOTALL)
_SHUTDOWN_SECONDS = 10.0
_CPU_CACHE_GIB = "1"


class VllmBackend:
    """See `backend.Backend`.

    Args:
        arguments: the content of `model.json`: vLLM's `AsyncEngineArgs` by name, with `model` a directory, and
            `vllm_chat.OWN_ARGUMENTS`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = dict(arguments)
        self._own = {name: self._arguments.pop(name, None) for name in vllm_chat.OWN_ARGUMENTS}
        # Where adapters are; they are added by their directory.
        self._arguments.pop("weights", None)
        self._adapters: dict[int, Any] = {}
        self._engine: Any = None
        self._live: dict[str, _Live] = {}
        self._stats: dict[int, backend.Stats] = {}
        self._aborts: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts vLLM's processes and loads the weights, which blocks the event loop until it is done.

        In this thread on purpose: vLLM's processes end when the thread that made them ends.

        Raises:
            ValueError: the endpoint asks for a parser or a chat template that there is not.
        """
        _prepare_environment()
        tool_parser, reasoning_parser = self._own["tool_call_parser"], self._arguments.get("reasoning_parser")
        vllm_chat.check_names(tool_parser, reasoning_parser)
        template = prompts.load_template(self._own["chat_template"])
        from vllm.v1.engine.async_llm import AsyncLLM

        engine_args = _engine_args(self._arguments)
        self._engine = AsyncLLM.from_engine_args(engine_args, stat_loggers=[_stat_loggers(self._stats)])
        model = self._engine.model_config
        tokenizer = self._engine.get_tokenizer()
        self.max_model_len: int | None = model.max_model_len
        self._vocabulary: int = model.get_vocab_size()
        self._parsers = vllm_chat.Parsers(tool_parser, reasoning_parser, tokenizer, model)
        self._prompt_tokenizer = prompts.PromptTokenizer(tokenizer, model.max_model_len, template)
        self._prompt_tokenizer.check(self._own["prompt"] or {})
        # What the model's authors advise in generation_config.json. How long an answer may get is not theirs to say.
        advised = model.get_diff_sampling_param()
        self._advised = {name: value for name, value in advised.items() if name != "max_tokens"}

    def submit(
        self,
        generation: backend.Generation,
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Generates text."""
        live = self._live[generation.id] = _Live(on_update, on_error)
        live.task = asyncio.get_running_loop().create_task(self._submit(generation, live))

    def abort(self, request_id: str) -> None:
        """Ends a request."""
        live = self._live.pop(request_id, None)
        if live is None:
            return
        if live.submitted:
            task = asyncio.get_running_loop().create_task(self._engine.abort(request_id))
            self._aborts.add(task)
            task.add_done_callback(self._aborts.discard)

    async def add_adapter(self, number: int, name: str, directory: str) -> None:
        """Loads a LoRA adapter into all of vLLM's workers."""
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        # vLLM takes requests of one name for the same, also in its cache of prefixes.
        adapter = LoRARequest(lora_name=f"{name}-{number}", lora_int_id=number, lora_path=directory)
        try:
            added = await self._engine.add_lora(adapter)
        except EngineDeadError:
            raise
        except Exception as error:
            # One that failed half way keeps its place.
            with contextlib.suppress(Exception):
                await self._engine.remove_lora(number)
            raise backend.AdapterRefused(_first_cause(error)) from None
        if not added:
            raise backend.AdapterRefused("vLLM did not load it; see the log of the pod")
        self._adapters[number] = adapter

    async def remove_adapter(self, number: int) -> None:
        """Removes a LoRA adapter from all of vLLM's workers."""
        del self._adapters[number]
        await self._engine.remove_lora(number)

    async def close(self) -> None:
        """Ends vLLM and its processes."""
        for request_id in list(self._live):
            self.abort(request_id)
        if self._aborts:
            await asyncio.wait(self._aborts, timeout=_SHUTDOWN_SECONDS)
        self._prompt_tokenizer.close()
        # The reference goes as well: vLLM shuts its engine down once more when it is collected, and fails at the
        # interpreter's end.
        engine, self._engine = self._engine, None
        engine.shutdown(timeout=_SHUTDOWN_SECONDS)

    def stats(self) -> backend.Stats:
        """What vLLM's schedulers said after their latest step; an idle one says nothing."""
        schedulers = list(self._stats.values())
        steps = sum(stats.steps for stats in schedulers)
        if not self._live:
            return backend.Stats(steps=steps)
        return backend.Stats(
            running=sum(stats.running for stats in schedulers),
            waiting=sum(stats.waiting for stats in schedulers),
            kv_cache_usage=max((stats.kv_cache_usage for stats in schedulers), default=0.0),
            steps=steps,
        )

    async def check(self) -> None:
        """Raises when one of vLLM's processes is gone."""
        await self._engine.check_health()

    async def _submit(self, generation: backend.Generation, live: _Live) -> None:
        """Hands a request to vLLM; what vLLM raises is reported as the caller's mistake or the engine's failure."""
        from vllm.inputs.engine import tokens_input

        try:
            given = self._advised | generation.sampling.given()
            choices = generation.sampling.n or 1
            talk = self._conversation(generation, given, choices)
            ids = await self._prompt_tokenizer.tokens(
                generation.text, generation.messages, talk.tools, talk.variables
            )
            wanted = _sampling_params(talk.sampling, self._vocabulary)
            if generation.id not in self._live:
                return
            progress = _Progress(ids, choices, talk)

            def receive(output: Any) -> None:
                self._receive(generation.id, progress, output)

            options = dict(talk.engine_options)
            if generation.adapter is not None:
                options["lora_request"] = self._adapters[generation.adapter]
            await vllm_requests.add(
                self._engine, generation.id, tokens_input(ids), wanted, receive, **options
            )
            live.submitted = True
        except Exception as error:
            self._fail(generation.id, error, _with_grammar(generation))
            return
        if generation.id not in self._live and not progress.finished:
            # It was aborted while vLLM was taking it.
            await self._engine.abort(generation.id)

    def _conversation(
        self, generation: backend.Generation, given: dict[str, Any], choices: int
    ) -> vllm_chat.Conversation:
        if generation.messages is not None:
            return self._parsers.conversation(generation.chat, given, choices)
        return vllm_chat.Conversation.plain(given)

    def _receive(self, request_id: str, progress: _Progress, output: Any) -> None:
        live = self._live.get(request_id)
        if live is None:
            return
        if isinstance(output, Exception):
            self._fail(request_id, output)
            return
        try:
            update = progress.update(output)
            if update.finished:
                del self._live[request_id]
            live.on_update(update)
        except Exception as error:
            # vLLM's output loop calls this: an exception there would end the engine.
            self._fail(request_id, error)

    def _fail(self, request_id: str, error: Exception, field: str = "sampling_parameters") -> None:
        """Ends a request with an error; `field` is what vLLM refuses if it does not say it."""
        live = self._live.pop(request_id, None)
        if live is None:
            return
        if not isinstance(error, errors.RequestError):
            error = _translate(error, field)
            if error.code == "engine_failure":
                log.error("a request failed in the engine: %s", error)
        live.on_error(error)


@dataclasses.dataclass(slots=True)
class _Live:
    """A request that has not ended."""

    on_update: Callable[[backend.Update], None]
    on_error: Callable[[errors.RequestError], None]
    task: asyncio.Task[None] | None = None
    submitted: bool = False


class _Progress:
    """One request's outputs from vLLM, as updates.

    Args:
        prompt: the token ids of the prompt.
        n: number of choices.
        conversation: what the text of the choices is.
    """

    def __init__(self, prompt: list[int], n: int, conversation: vllm_chat.Conversation) -> None:
        self._prompt = prompt
        self._conversation = conversation
        self._finish_reasons: list[str | None] = [None] * n
        self._cumulative = [0.0] * n

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        return None not in self._finish_reasons

    def update(self, output: Any) -> backend.Update:
        """What is new in a `RequestOutput` of kind DELTA, which holds only the choices that have something new."""
        n = len(self._finish_reasons)
        update = backend.Update([""] * n, list(self._finish_reasons), len(self._prompt), [0] * n)
        for completion in output.outputs:
            index = completion.index
            update.texts[index] = completion.text
            update.output_tokens[index] = len(completion.token_ids)
            if completion.finish_reason is not None:
                self._finish_reasons[index] = update.finish_reasons[index] = _finish_reason(
                    completion.finish_reason
                )
            if self._conversation.parsers:
                self._parse(completion, update)
            if completion.logprobs is not None and not self._conversation.hides_reasoning:
                # Without a new token some versions repeat the log probabilities of all tokens.
                new = completion.logprobs if completion.token_ids else []
                update.logprobs = update.logprobs or [[] for _ in self._finish_reasons]
                update.logprobs[index] = [_position(position) for position in new]
                self._cumulative[index] = _finite(completion.cumulative_logprob or 0.0)
                update.cumulative_logprobs = list(self._cumulative)
        return update

    def _parse(self, completion: Any, update: backend.Update) -> None:
        """Takes reasoning and tool calls out of the text of a choice."""
        index, ended = completion.index, update.finish_reasons[completion.index]
        delta = self._conversation.feed(
            index, completion.text, list(completion.token_ids), self._prompt, ended
        )
        update.texts[index] = delta.text
        if delta.reasoning:
            update.reasoning = update.reasoning or [""] * len(update.texts)
            update.reasoning[index] = delta.reasoning
        if delta.tool_calls:
            update.tool_calls = update.tool_calls or [[] for _ in update.texts]
            update.tool_calls[index] = delta.tool_calls
        if ended is not None:
            reason = self._conversation.finish_reason(index, ended)
            self._finish_reasons[index] = update.finish_reasons[index] = reason


def _prepare_environment() -> None:
    """What must be so before vLLM is imported."""
    # workaround: W14
    # Triton's stub runs Python in the C locale, in which vLLM and torch fail to read their own sources.
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    # Weights are on disk before an engine starts: it neither downloads anything nor reports usage.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # On a CPU, vLLM would take nearly all of the machine's memory for its cache. No effect on GPUs.
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_CACHE_GIB)
    die_with_parent.enable()
    shared_names.enable()


def _stat_loggers(latest: dict[int, backend.Stats]) -> Any:
    """A vLLM `StatLoggerFactory` whose loggers keep their scheduler's latest statistics in `latest`."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Latest(StatLoggerBase):
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            self._index = engine_index

        def record(self, scheduler_stats: Any = None, *args: Any, **kwargs: Any) -> None:
            steps = latest.get(self._index, backend.Stats()).steps + 1
            if scheduler_stats is None:
                latest[self._index].steps = steps
            else:
                latest[self._index] = backend.Stats(
                    running=scheduler_stats.num_running_reqs,
                    waiting=scheduler_stats.num_waiting_reqs
                    + getattr(scheduler_stats, "num_skipped_waiting_reqs", 0),
                    kv_cache_usage=scheduler_stats.kv_cache_usage,
                    steps=steps,
                )

        def log_engine_initialized(self) -> None:
            latest[self._index] = backend.Stats()

    return Latest


def _sampling_params(given: dict[str, Any], vocabulary: int) -> Any:
    """A request's parameters as vLLM's `SamplingParams`.

    Raises:
        RequestError: a token id or a bias is out of bounds.
        ValueError: vLLM refuses the combination.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    token_bounds.check(given, vocabulary)
    if isinstance(given.get("structured_outputs"), dict):
        given["structured_outputs"] = StructuredOutputsParams(**given["structured_outputs"])
    given.setdefault("max_tokens", sampling.DEFAULT_MAX_TOKENS)
    if "logit_bias" in given:
        given["logit_bias"] = {int(token): bias for token, bias in given["logit_bias"].items()}
    return SamplingParams(**given, output_kind=RequestOutputKind.DELTA)


def _finish_reason(reason: str) -> str:
    if reason not in _FINISH_REASONS:
        raise errors.RequestError(
            "engine_failure", "", f"vLLM ended the request with `{reason}`; send it again"
        )
    return _FINISH_REASONS[reason]


def _position(position: Any) -> dict[int, dict[str, Any]]:
    """The log probabilities of one generated token, in the form of Triton's vLLM backend."""
    return {
        token: {
            "logprob": _finite(found.logprob),
            "rank": found.rank,
            "decoded_token": found.decoded_token,
        }
        for token, found in position.items()
    }


def _finite(logprob: float) -> float:
    # The comparison is false for NaN, too.
    return logprob if logprob > _LEAST_LOGPROB else _LEAST_LOGPROB


def _engine_args(arguments: dict[str, Any]) -> Any:
    """The `AsyncEngineArgs` of vLLM, with configurations made of objects, as vLLM's command line makes them.

    `AsyncEngineArgs` itself does so for some of its configurations only.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    found = dict(arguments)
    for field in dataclasses.fields(AsyncEngineArgs):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(default) and isinstance(found.get(field.name), dict):
            found[field.name] = type(default)(**found[field.name])
    return AsyncEngineArgs(**found)


def _first_cause(error: Exception) -> str:
    """Why vLLM refuses an adapter, without the words of the processes that passed it on."""
    text = str(error).removeprefix("Call to add_lora method failed: ").strip()
    return match[1] if (match := _PASSED_ON.match(text)) else text or repr(error)


def _with_grammar(generation: backend.Generation) -> str:
    """The field of which vLLM makes a grammar. It is what vLLM refuses without a name: all else has been checked."""
    if generation.sampling.structured_outputs is not None:
        return "sampling_parameters.structured_outputs"
    return "chat_options.tools" if generation.chat.get("tools") else "sampling_parameters"


def _translate(error: Exception, field: str) -> errors.RequestError:
    """What a caller is told about an exception of vLLM."""
    import vllm.exceptions
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    if isinstance(error, EngineDeadError):
        return errors.RequestError(
            "engine_failure", "", "the engine has died and is being restarted; try again later"
        )
    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    # Up to 0.25 vLLM's refusals are ValueErrors, later ones are not.
    refusals = (ValueError, getattr(vllm.exceptions, "VLLMClientError", ValueError))
    if not isinstance(error, refusals):
        return errors.RequestError("engine_failure", "", f"vLLM failed on this request: {error!r}")
    parameter = getattr(error, "parameter", None)
    known = parameter in sampling.SamplingParameters.model_fields
    message = _SOURCE.sub("", str(error.args[0] if error.args else error)).strip()
    return errors.RequestError(
        "invalid_argument", f"sampling_parameters.{parameter}" if known else field, message
    )
