"""What the engine model asks of whatever generates its text: the seam between Triton and an engine.

The engine model knows tensors, streams and metrics; a backend knows how text is made. `vllm_engine` and
`simulated` are the two there are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from tritonllm import sampling


@dataclass(frozen=True, slots=True)
class Generation:
    """One request for text: exactly one of `text` and `messages` is set.

    Args:
        id: names the request to `Backend.abort`; unique among the live ones.
        text: the prompt as it is.
        messages: a conversation, turned into a prompt by the model's chat template.
        sampling: already with the endpoint's defaults; what is None is the backend's to choose.
    """

    id: str
    text: str | None
    messages: list[dict[str, str]] | None
    sampling: sampling.SamplingParameters


@dataclass(slots=True)
class Update:
    """What is new since the last update of a request that asked for `n` choices.

    Args:
        texts: `n` deltas, possibly empty.
        finish_reasons: per choice None while it goes on, then `stop`, `length` or `cancelled`, which is repeated
            in every later update.
        input_tokens: tokens of the prompt, the same in every update.
        output_tokens: new tokens per choice.
        logprobs: where the request asked for them, per choice a list with one entry per new token,
            `{token id: {"logprob", "rank", "decoded_token"}}`, as in Triton's vLLM backend.
        cumulative_logprobs: where the request asked for logprobs, the sum so far per choice.
    """

    texts: list[str]
    finish_reasons: list[str | None]
    input_tokens: int
    output_tokens: list[int]
    logprobs: list[list[dict[int, dict[str, Any]]]] | None = None
    cumulative_logprobs: list[float] | None = None

    @property
    def finished(self) -> bool:
        """Whether every choice has ended; no update follows."""
        return all(reason is not None for reason in self.finish_reasons)


@dataclass(slots=True)
class Stats:
    """How busy a backend is.

    Args:
        running: sequences being generated.
        waiting: sequences accepted that don't run yet.
        kv_cache_usage: used share of the cache, 0 to 1.
    """

    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0


class Backend(Protocol):
    """An engine. All of it is called from one event loop, except `stats`, which any thread may call."""

    capacity: int
    """Sequences it works on at once."""

    async def start(self) -> None:
        """Loads the weights. Returns when requests can be served.

        The calling thread must outlive the engine: an engine's processes end with the thread that made them.
        """
        ...

    def generate(self, generation: Generation) -> AsyncGenerator[Update]:
        """Generates text. Closing the generator, or cancelling its task, aborts the request.

        Raises:
            RequestError: `invalid_argument` for what the caller got wrong, before the first update;
                `engine_failure` when the engine fails, at any time.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Ends a request, whose generator then yields a last update with `cancelled`. Unknown: no effect."""
        ...

    async def close(self) -> None:
        """Ends the engine and its processes. Requests still live end with `cancelled`."""
        ...

    def stats(self) -> Stats:
        """How busy it is, as of its latest step."""
        ...

    async def check(self) -> None:
        """Raises when the engine is dead and can serve nothing more."""
        ...
