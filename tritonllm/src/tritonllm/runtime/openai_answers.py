"""The chunks of OpenAI's streams as updates of an engine. Pure.

The upstream tells the tokens of prompt and answer when all choices have ended. Until then, a chunk with text counts as one
token, which is what most servers send; the last update corrects the sum. Of several choices the upstream only tells the sum:
the correction is counted for the first.
"""

from __future__ import annotations

import itertools
import secrets
from typing import Annotated, Any

import pydantic

from tritonllm import errors
from tritonllm.runtime import backend

# The names of OpenAI, of vLLM for what it ended itself, and of servers that have their own for the end of an answer.
_FINISH_REASONS = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "abort": "cancelled",
}
# As of vLLM's server; JSON has no number for infinity.
_LEAST_LOGPROB = -9999.0

_Count = Annotated[int, pydantic.Field(ge=0, lt=2**31)]


class _Function(pydantic.BaseModel):
    name: str | None = None
    arguments: str | None = None


class _Call(pydantic.BaseModel):
    index: _Count = 0
    id: str | None = None
    function: _Function = _Function()


class _Delta(pydantic.BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Token(pydantic.BaseModel):
    token: str
    logprob: float
    top_logprobs: list[_Token] = []


class _Logprobs(pydantic.BaseModel):
    """Those of chat completions, `content`, or those of completions."""

    content: list[_Token] | None = None
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None

    def positions(self) -> list[_Token]:
        """Each generated token with the most likely ones."""
        if self.content is not None:
            return self.content
        tops = self.top_logprobs or []
        return [
            _Token(
                token=token,
                logprob=_LEAST_LOGPROB if logprob is None else logprob,
                top_logprobs=[
                    _Token(token=other, logprob=value)
                    for other, value in sorted((top or {}).items(), key=lambda each: -each[1])
                ],
            )
            for token, logprob, top in itertools.zip_longest(
                self.tokens, self.token_logprobs[: len(self.tokens)], tops[: len(self.tokens)]
            )
        ]


class _Choice(pydantic.BaseModel):
    index: _Count = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(pydantic.BaseModel):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class _Chunk(pydantic.BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class UpstreamError(Exception):
    """The upstream ended a stream with an error.

    Args:
        error: as it was sent.
    """

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


class Reader:
    """Reads the chunks of one request.

    Args:
        n: number of choices.
        logprobs: whether log probabilities were asked for.
        reasoning: whether the reasoning is part of the answer.
    """

    def __init__(self, n: int, *, logprobs: bool, reasoning: bool) -> None:
        self._n = n
        # Those of tokens that are left out would tell them.
        self._logprobs = logprobs and reasoning
        self._reasoning = reasoning
        self._reasons: list[str | None] = [None] * n
        self._cumulative = [0.0] * n
        self._counted = 0
        self._calls: set[tuple[int, int]] = set()
        self._usage: _Usage | None = None

    @property
    def told_usage(self) -> bool:
        """Whether the upstream has told the number of tokens."""
        return self._usage is not None

    def update(self, event: bytes) -> backend.Update | None:
        """What is new in a chunk; None for nothing. Choices end with `last`, after which the tokens are known.

        Raises:
            UpstreamError: it is an error.
            RequestError: `engine_failure`: it is no chunk of OpenAI's API.
        """
        try:
            chunk = _Chunk.model_validate_json(event)
        except pydantic.ValidationError:
            raise _failure("sent what is no chunk of an answer") from None
        if chunk.error is not None:
            raise UpstreamError(chunk.error)
        self._usage = chunk.usage or self._usage
        update = self._empty()
        for choice in chunk.choices:
            if choice.index >= self._n:
                raise _failure(f"sent the choice {choice.index}, but {self._n} were asked for")
            self._take(choice, update)
        return update if any(update.output_tokens) else None

    def last(self) -> backend.Update:
        """The last update.

        Raises:
            RequestError: `engine_failure`: the answer is not complete.
        """
        if None in self._reasons:
            raise _failure("ended the stream before the answer was complete")
        update = self._empty()
        update.finish_reasons = list(self._reasons)
        if self._usage is not None:
            update.input_tokens = self._usage.prompt_tokens
            update.output_tokens[0] = max(0, self._usage.completion_tokens - self._counted)
        return update

    def _empty(self) -> backend.Update:
        return backend.Update([""] * self._n, [None] * self._n, 0, [0] * self._n)

    def _take(self, choice: _Choice, update: backend.Update) -> None:
        index, delta = choice.index, choice.delta or _Delta()
        # A refusal is what the model says in place of an answer.
        update.texts[index] += (choice.text or "") + (delta.content or "") + (delta.refusal or "")
        reasoning = delta.reasoning or delta.reasoning_content or ""
        if reasoning and self._reasoning:
            update.reasoning = update.reasoning or [""] * self._n
            update.reasoning[index] += reasoning
        if delta.tool_calls:
            update.tool_calls = update.tool_calls or [[] for _ in range(self._n)]
            update.tool_calls[index] += [self._call(index, call) for call in delta.tool_calls]
        positions = choice.logprobs.positions() if choice.logprobs else []
        if positions and self._logprobs:
            update.logprobs = update.logprobs or [[] for _ in range(self._n)]
            update.logprobs[index] += [_position(position) for position in positions]
            self._cumulative[index] += sum(_finite(position.logprob) for position in positions)
            update.cumulative_logprobs = list(self._cumulative)
        new = len(positions) or int(bool(update.texts[index] or reasoning or delta.tool_calls))
        update.output_tokens[index] += new
        self._counted += new
        if choice.finish_reason is not None:
            if choice.finish_reason not in _FINISH_REASONS:
                raise _failure("ended the answer with a finish reason that is not OpenAI's")
            self._reasons[index] = _FINISH_REASONS[choice.finish_reason]

    def _call(self, choice: int, call: _Call) -> dict[str, Any]:
        """A delta of a tool call; the first one of a call is complete, whatever the upstream leaves out."""
        function = call.function.model_dump(exclude_none=True)
        if (choice, call.index) in self._calls:
            return {"index": call.index, "function": {"arguments": function.get("arguments", "")}}
        self._calls.add((choice, call.index))
        return {
            "index": call.index,
            "id": call.id or f"call_{secrets.token_hex(8)}",
            "type": "function",
            "function": {"name": "", "arguments": ""} | function,
        }


def _position(generated: _Token) -> dict[int, dict[str, Any]]:
    """The log probabilities of one generated token, in the form of Triton's vLLM backend.

    OpenAI's API does not tell the ids of tokens.
    """
    top = generated.top_logprobs
    ranks = [rank for rank, each in enumerate(top, start=1) if each.token == generated.token]
    # Where it is not among the most likely, its rank is not known.
    listed = [(generated, ranks[0] if ranks else len(top) + 1)]
    listed += [(each, rank) for rank, each in enumerate(top, start=1) if rank not in ranks[:1]]
    return {
        -number: {"logprob": _finite(each.logprob), "rank": rank, "decoded_token": each.token}
        for number, (each, rank) in enumerate(listed, start=1)
    }


def _finite(logprob: float) -> float:
    # The comparisons are false for NaN, too.
    return logprob if _LEAST_LOGPROB < logprob < 1 else _LEAST_LOGPROB


def _failure(what: str) -> errors.RequestError:
    return errors.RequestError("engine_failure", "", f"the upstream {what}")
