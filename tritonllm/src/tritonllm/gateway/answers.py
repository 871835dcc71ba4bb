"""Outputs of the pipeline, read into what OpenAI's API speaks of: deltas of choices, finish reasons, usage, guardrails.

Pure. One `Answer` per prompt; it is fed every response of the pipeline and says what is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from tritonllm import errors
from tritonllm.gateway import failures, upstream

# In the pipeline's outputs, of a choice that goes on.
_GOES_ON = "None"
_NO_TOOL_CALLS = ("", "[]")

REFUSAL = "This prompt was blocked by the guardrails of the endpoint."
"""The text of a refusal; which rule it was is in `guardrails`."""


class Delta(NamedTuple):
    """What is new of one choice.

    Attributes:
        choice: its index, in the whole request.
        text: that follows.
        reasoning: text of the model's reasoning that follows.
        tool_calls: JSON list of deltas of tool calls, as in OpenAI's stream; empty for none.
        logprobs: of the new tokens, in the pipeline's form; None if they were not asked for.
        finish_reason: if the choice has ended.
    """

    choice: int
    text: str
    reasoning: str
    tool_calls: str
    logprobs: list[dict[str, Any]] | None
    finish_reason: str | None


class Usage(NamedTuple):
    """Tokens of a request."""

    prompt: int
    completion: int

    def described(self) -> dict[str, int]:
        """As in OpenAI's API."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


class Answer:
    """The answer to one prompt.

    Args:
        first: index of its first choice.
        n: number of its choices.
        refusal: how a blocked prompt is answered; see `upstream.Endpoint`.

    Attributes:
        input_tokens: tokens of the prompt, as far as known.
        output_tokens: tokens generated, as far as known.
        guardrail: what the rules found.
        refused: whether the prompt was blocked, and the answer is a refusal.
    """

    def __init__(self, first: int, n: int, refusal: str) -> None:
        self.input_tokens = 0
        self.output_tokens = 0
        self.guardrail: list[dict[str, Any]] = []
        self.refused = False
        self._first = first
        self._open = set(range(n))
        self._refusal = refusal
        self._counted = False

    def take(self, outputs: upstream.Outputs) -> list[Delta]:
        """Reads one response of the pipeline; of the last one also `guardrail` and tokens.

        Raises:
            RequestError: the prompt was blocked, or the answer did not end as an answer does.
        """
        reasons = outputs.get("finish_reason")
        if "num_output_tokens" in outputs:
            self._note(outputs)
        reasoning, calls, logprobs = (
            outputs.get("reasoning_output"),
            outputs.get("tool_calls"),
            outputs.get("logprobs"),
        )
        found = []
        for index, text in enumerate(outputs["text_output"]):
            reason = reasons[index] if reasons is not None else _GOES_ON
            ended = reason != _GOES_ON and index in self._open
            if ended:
                self._end(index, reason)
            called = calls[index] if calls else ""
            found.append(
                Delta(
                    self._first + index,
                    text,
                    reasoning[index] if reasoning else "",
                    "" if called in _NO_TOOL_CALLS else called,
                    json.loads(logprobs[index]) if logprobs else None,
                    reason if ended else None,
                )
            )
        return found

    def _note(self, outputs: upstream.Outputs) -> None:
        if found := outputs.get("num_input_tokens"):
            self.input_tokens = int(found[0]) or self.input_tokens
        if found := outputs.get("num_output_tokens"):
            self.output_tokens += sum(map(int, found))
        if found := outputs.get("guardrail"):
            self.guardrail = json.loads(found[0]) if found[0] else []
            blocks = [
                each for each in self.guardrail if each["action"] == "Block" and each["direction"] == "input"
            ]
            if blocks:
                if self._refusal != "Message":
                    raise failures.Blocked(blocks[0].get("field", ""), guardrails([self]))
                self.refused = True

    def _end(self, index: int, reason: str) -> None:
        if reason == "timeout":
            raise errors.RequestError(
                "timeout", "", "the answer was not complete within the endpoint's `requestTimeoutSeconds`"
            )
        if reason == "cancelled":
            raise errors.RequestError("cancelled", "", "the request was cancelled; send it again")
        self._open.discard(index)


def usage(answers: Iterable[Answer]) -> Usage:
    """The tokens of all prompts together."""
    listed = list(answers)
    return Usage(sum(each.input_tokens for each in listed), sum(each.output_tokens for each in listed))


def guardrails(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """What the rules found in all prompts and answers together."""
    counts: dict[tuple[str, str, str], int] = {}
    for answer in answers:
        for found in answer.guardrail:
            key = found["rule"], found["action"], found["direction"]
            counts[key] = counts.get(key, 0) + found["count"]
    return [
        {"rule": rule, "action": action, "direction": direction, "count": count}
        for (rule, action, direction), count in counts.items()
    ]
