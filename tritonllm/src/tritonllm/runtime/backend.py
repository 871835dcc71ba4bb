"""The interface between the engine model and whatever generates its text.

The engine model knows connections, leases and metrics; a backend knows how text is generated. Each engine type of
`tritonllm.engines` names its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tritonllm import errors, sampling


@dataclass(frozen=True, slots=True)
class Generation:
    """One request for text: exactly one of `text` and `messages` is set.

    Args:
        id: names the request to `Backend.abort`; unique among the live ones.
        text: the prompt as it is.
        messages: a conversation, turned into a prompt by the model's chat template.
        sampling: with the endpoint's defaults applied; parameters that are not set are left to the backend.
        chat: what a conversation comes with; see `conversations.ChatOptions`. Empty for a text.
        adapter: id of the adapter to use, which has been added; None for the model alone.
    """

    id: str
    text: str | None
    messages: list[dict[str, Any]] | None
    sampling: sampling.SamplingParameters
    chat: dict[str, Any] = field(default_factory=dict)
    adapter: int | None = None


@dataclass(slots=True)
class Update:
    """What is new since the last update of a request that asked for `n` choices.

    Args:
        texts: `n` deltas, possibly empty.
        finish_reasons: per choice None while it goes on, then `stop`, `length`, `tool_calls`, `cancelled` or
            `content_filter`, which is repeated in every later update.
        input_tokens: tokens of the prompt, the same in every update; 0 while they are not known.
        output_tokens: new tokens per choice.
        logprobs: if the request asked for them, per choice a list with one entry per new token,
            `{token id: {"logprob", "rank", "decoded_token"}}`, as in Triton's vLLM backend; ids that are not known are
            -1, -2 and so on.
        cumulative_logprobs: if the request asked for logprobs, the sum so far per choice.
        reasoning: `n` deltas of the model's reasoning, if there is any; they are not part of `texts`.
        tool_calls: per choice a list of deltas of tool calls as in OpenAI's streams, if there are any:
            `{"index", "id", "type", "function": {"name", "arguments"}}`, of which later deltas of a call have only
            `index` and more `arguments`.
    """

    texts: list[str]
    finish_reasons: list[str | None]
    input_tokens: int
    output_tokens: list[int]
    logprobs: list[list[dict[int, dict[str, Any]]]] | None = None
    cumulative_logprobs: list[float] | None = None
    reasoning: list[str] | None = None
    tool_calls: list[list[dict[str, Any]]] | None = None

    @property
    def finished(self) -> bool:
        """Whether every choice has ended; no update follows."""
        return None not in self.finish_reasons

    def fields(self) -> list[Any]:
        """As it travels: the arguments of the constructor."""
        return [
            self.texts,
            self.finish_reasons,
            self.input_tokens,
            self.output_tokens,
            self.logprobs,
            self.cumulative_logprobs,
            self.reasoning,
            self.tool_calls,
        ]

    def merge(self, later: Update) -> None:
        """Appends the update that followed this one, so that both can travel as one."""
        if len(self.texts) == 1 and later.logprobs is None and not later.reasoning and not later.tool_calls:
            # By far the most frequent, for each token of each stream under load.
            self.texts[0] += later.texts[0]
            self.finish_reasons = later.finish_reasons
            self.input_tokens = later.input_tokens or self.input_tokens
            self.output_tokens[0] += later.output_tokens[0]
            return
        self.texts = [text + new for text, new in zip(self.texts, later.texts, strict=True)]
        self.finish_reasons = later.finish_reasons
        self.input_tokens = later.input_tokens or self.input_tokens
        self.output_tokens = [
            tokens + new for tokens, new in zip(self.output_tokens, later.output_tokens, strict=True)
        ]
        if later.logprobs is not None:
            earlier = self.logprobs or [[] for _ in later.logprobs]
            self.logprobs = [old + new for old, new in zip(earlier, later.logprobs, strict=True)]
        self.cumulative_logprobs = later.cumulative_logprobs or self.cumulative_logprobs
        if later.reasoning is not None:
            before = self.reasoning or [""] * len(later.reasoning)
            self.reasoning = [text + new for text, new in zip(before, later.reasoning, strict=True)]
        if later.tool_calls is not None:
            calls = self.tool_calls or [[] for _ in later.tool_calls]
            self.tool_calls = [old + new for old, new in zip(calls, later.tool_calls, strict=True)]


@dataclass(slots=True)
class Stats:
    """How busy a backend is.

    Args:
        running: sequences being generated.
        waiting: sequences accepted that do not run yet.
        kv_cache_usage: used share of the KV cache, 0 to 1.
        steps: number of steps so far; while requests are live, one that stands still means a hung engine.
    """

    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0
    steps: int = 0


class AdapterRefused(Exception):
    """The engine can't serve an adapter; the text says why."""


class Backend(Protocol):
    """An engine. All of it is called from one event loop, which also calls back.

    A backend of a type that serves no adapters inherits their refusal.

    Attributes:
        max_model_len: maximum number of tokens of prompt and answer together, known when it has started; None for an
            engine that can't know it.
    """

    max_model_len: int | None

    async def start(self) -> None:
        """Loads the weights. Returns when requests can be served.

        The calling thread must outlive the engine: an engine's processes end with the thread that made them.
        """
        ...

    def submit(
        self,
        generation: Generation,
        on_update: Callable[[Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Starts to generate text.

        Args:
            generation: what to generate.
            on_update: called with each update; the one that is `finished` is the last.
            on_error: called instead, at any time, and nothing follows: `invalid_argument` for what the caller got
                wrong, before the first update; `engine_failure`, `queue_full` or `unavailable` when the engine fails.
        """
        ...

    def abort(self, request_id: str) -> None:
        """Ends a request; its callbacks are not called any more. No effect if it has ended or is unknown."""
        ...

    async def add_adapter(self, number: int, name: str, directory: str) -> None:
        """Loads a LoRA adapter, while requests go on.

        Args:
            number: its id, never used before.
            name: for logs.
            directory: of its files.

        Raises:
            AdapterRefused: the engine can't serve it, and is as it was before.
        """
        raise AdapterRefused("this type of engine serves no adapters")

    async def remove_adapter(self, number: int) -> None:
        """Removes an adapter that no request uses any more."""

    async def close(self) -> None:
        """Ends the engine and its processes. Requests still live get no further updates."""
        ...

    def stats(self) -> Stats:
        """How busy it is, as of its latest step."""
        ...

    async def check(self) -> None:
        """Raises if the engine is dead and can serve nothing more."""
        ...
