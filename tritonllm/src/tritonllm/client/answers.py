"""Answers, and how they are assembled from the server's responses. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tritonllm.client import errors
from tritonllm.finish_reasons import FinishReason

Outputs = Mapping[str, list[Any]]
"""One response of a model: its outputs by name, with strings decoded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The matches of one guardrail rule, without the matched text.

    Attributes:
        rule: name of the rule.
        action: the rule's action: `Block`, `Mask` or `Flag`.
        direction: `input` (the prompt) or `output` (the answer).
        count: number of matches.
    """

    rule: str
    action: str
    direction: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of the `n` answers to a prompt.

    Attributes:
        text: the generated text, after the guardrails.
        finish_reason: why the answer ended; see `tritonllm.finish_reasons`.
        output_tokens: number of generated tokens.
        logprobs: the engine's log probabilities, one entry per token, if the sampling parameter requests them.
    """

    text: str
    finish_reason: FinishReason
    output_tokens: int
    logprobs: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to a request.

    Attributes:
        choices: one entry, or `n` of them.
        input_tokens: number of tokens of the prompt; 0 if a rule blocked it before it reached the engine.
        verdicts: the matches of guardrail rules in the prompt and the answer.
    """

    choices: tuple[Choice, ...]
    input_tokens: int
    verdicts: tuple[Verdict, ...]

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def output_tokens(self) -> int:
        """Number of generated tokens of all choices."""
        return sum(choice.output_tokens for choice in self.choices)


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of an answer.

    Attributes:
        text: never empty.
        index: which of the `n` choices it belongs to, from 0.
    """

    text: str
    index: int


@dataclasses.dataclass(frozen=True, slots=True)
class Moderation:
    """The result of checking a text against a policy.

    Attributes:
        text: the masked text; empty if it is blocked.
        blocked: whether a Block rule matched.
        verdicts: the matches.
    """

    text: str
    blocked: bool
    verdicts: tuple[Verdict, ...]


class AnswerBuilder:
    """Assembles an answer from responses."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self._texts: list[list[str]] = []
        self._logprobs: list[list[Any]] = []

    def add(self, outputs: Outputs) -> list[Chunk]:
        """Adds a response and returns its text; the last response completes `answer`."""
        texts = _get(outputs, "text_output")
        while len(self._texts) < len(texts):
            self._texts.append([])
            self._logprobs.append([])
        for index, text in enumerate(texts):
            self._texts[index].append(text)
        for index, entries in enumerate(outputs.get("logprobs", [])):
            self._logprobs[index] += json.loads(entries)
        # Only the last response has the token counts, unless a request asks for them in each, which this client does not.
        if "num_output_tokens" in outputs:
            self.answer = self._complete(outputs)
        return [Chunk(text, index) for index, text in enumerate(texts) if text]

    def _complete(self, outputs: Outputs) -> Answer:
        ends = zip(_get(outputs, "finish_reason"), outputs["num_output_tokens"], strict=True)
        return Answer(
            choices=tuple(
                Choice("".join(self._texts[index]), reason, tokens, tuple(self._logprobs[index]))
                for index, (reason, tokens) in enumerate(ends)
            ),
            input_tokens=_get(outputs, "num_input_tokens")[0],
            verdicts=_verdicts(outputs.get("guardrail", ["[]"])[0]),
        )


def moderation(outputs: Outputs) -> Moderation:
    """The result of a guardrail model."""
    return Moderation(
        text=_get(outputs, "text_output")[0],
        blocked=_get(outputs, "blocked")[0],
        verdicts=_verdicts(_get(outputs, "guardrail")[0]),
    )


def _verdicts(text: str) -> tuple[Verdict, ...]:
    return tuple(Verdict(**{key: found[key] for key in _VERDICT}) for found in json.loads(text))


_VERDICT = tuple(field.name for field in dataclasses.fields(Verdict))


def _get(outputs: Outputs, name: str) -> list[Any]:
    if name not in outputs:
        raise errors.ServerFailed(
            f"the response has no output `{name}`; was the request sent to an endpoint?"
        )
    return outputs[name]
