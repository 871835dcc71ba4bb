"""The answer to one request as it grows: engine output in, outputs for the caller out.

Pure and not thread-safe.
"""

from __future__ import annotations

import json
from typing import Any

from tritonllm import guardrails
from tritonllm.guardrails import judges
from tritonllm.runtime import backend, requests, screening, tool_calls


class Choice:
    """One of the `n` answers to a prompt: its text, its reasoning and its tool calls, each under the output rules.

    Args:
        policy: its output rules judge what is generated; None lets it through.
    """

    def __init__(self, policy: screening.EndpointPolicy | None) -> None:
        # How it ends, once what judges still have to decide about is decided.
        self._reason: str | None = None
        self._cut = False
        self.tokens = 0
        self.tokens_sent = 0
        self.logprobs: list[Any] = []
        self.cumulative_logprob = 0.0
        self.failures = 0
        self._policy = policy if policy and policy.output else None
        self._text = _Channel(self._policy)
        self._reasoning: _Channel | None = None
        self._calls: tool_calls.ToolCalls | None = None
        self._judged_calls = tool_calls.JudgedCalls(policy.judges["output"] if policy else ())
        self._call_verdicts: list[guardrails.Verdict] = []

    @property
    def finish_reason(self) -> str | None:
        """How it has ended; None while it goes on, or judges still have to decide about its end."""
        return None if self._undecided and not self._cut else self._reason

    def feed(self, text: str) -> None:
        """Takes the next piece of the engine's text."""
        if self._reason is None:
            self._judge(self._text, text, last=False)

    def reason(self, text: str) -> None:
        """Takes the next piece of the engine's reasoning."""
        if self._reason is None and text:
            if self._reasoning is None:
                self._reasoning = _Channel(self._policy)
            self._judge(self._reasoning, text, last=False)

    def call(self, deltas: list[tool_calls.Delta]) -> None:
        """Takes the next deltas of the engine's tool calls."""
        if self._reason is None and deltas:
            if self._calls is None:
                self._calls = tool_calls.ToolCalls(self._judge_call if self._policy else None)
            self._calls.feed(deltas)
            self._judged_calls.feed(self._calls.take())

    def finish(self, reason: str) -> None:
        """Ends the choice; what the matchers held back as undecided is decided now."""
        if self._reason is not None:
            return
        if self._reasoning is not None:
            self._judge(self._reasoning, "", last=True)
        if self._reason is None:
            self._judge(self._text, "", last=True)
        if self._reason is None and self._calls is not None:
            self._calls.finish()
            self._judged_calls.feed(self._calls.take())
        self._reason = self._reason or reason

    def cut(self, reason: str) -> None:
        """Ends the choice at once: what judges have not decided about never leaves."""
        if self.finish_reason is None:
            self.finish(reason)
            self._reason = reason if self._undecided else self._reason
            self._cut = True

    def block(self) -> None:
        """Ends the choice at once because of a rule, also if it has ended otherwise."""
        self._reason = "content_filter"
        self._cut = True
        self._judged_calls.discard()

    def settle(self) -> None:
        """Takes note of the verdicts of judges."""
        if any(part.blocked_by_judge for part in self._parts) or self._judged_calls.blocked:
            self.block()

    def questions(self, limit: int) -> list[judges.Question]:
        """The next windows that judges have to decide about, each once."""
        found: list[judges.Question] = []
        for part in (*self._parts, self._judged_calls):
            if len(found) < limit and not self._cut:
                found += part.questions(limit - len(found))
        return found

    @property
    def pending(self) -> bool:
        """Whether something may leave that has not left yet."""
        return any(part.pending for part in self._parts) or self._judged_calls.pending

    def verdicts(self) -> list[guardrails.Verdict]:
        """What the rules have found."""
        found = [verdict for part in self._parts for verdict in part.verdicts]
        return [*found, *self._call_verdicts, *self._judged_calls.verdicts]

    @property
    def _parts(self) -> list[_Channel]:
        return [self._reasoning, self._text] if self._reasoning else [self._text]

    @property
    def _undecided(self) -> bool:
        return any(part.undecided for part in self._parts) or self._judged_calls.undecided

    def take(self) -> str:
        """The text that may leave and has not left yet."""
        return self._text.take()

    def take_reasoning(self) -> str:
        """The reasoning that may leave and has not left yet."""
        return self._reasoning.take() if self._reasoning else ""

    def take_calls(self) -> list[tool_calls.Delta]:
        """The deltas of tool calls that may leave and have not left yet."""
        return self._judged_calls.take()

    def _judge(self, channel: _Channel, text: str, *, last: bool) -> None:
        try:
            channel.feed(text, last=last)
        except Exception:
            self._failed()
            channel.open()
        if channel.blocked:
            self._block()

    def _judge_call(self, text: str) -> str:
        """Applies the rules to a text of a tool call, which is whole."""
        assert self._policy is not None
        assert self._policy.output is not None
        if self._reason is not None:
            return ""
        try:
            result = self._policy.output.scan(text)
        except Exception:
            self._failed()
            return text
        self._call_verdicts += result.verdicts
        if result.blocked:
            self._block()
        return result.text

    def _block(self) -> None:
        """A matcher has ended the choice; judges still decide about what was before."""
        self._reason = "content_filter"
        for part in self._parts:
            part.end()
        if self._calls is not None:
            self._calls.discard()

    def _failed(self) -> None:
        assert self._policy is not None
        self._policy.failed("output")
        self.failures += 1


class _Channel:
    """A text that grows, and what of it may leave: first the matchers decide, then the judges."""

    def __init__(self, policy: screening.EndpointPolicy | None) -> None:
        self._stream = policy.output.stream() if policy and policy.output else None
        self._judging = self._stream is not None
        self._judged = judges.JudgedText(policy.judges["output"] if policy else ())

    @property
    def pending(self) -> bool:
        """Whether something may leave that has not left yet."""
        return self._judged.pending

    @property
    def undecided(self) -> bool:
        """Whether judges still have to decide about a part of it."""
        return self._judged.undecided

    @property
    def blocked(self) -> bool:
        """Whether a matcher has ended the text."""
        return self._judging and self._stream is not None and self._stream.blocked

    @property
    def blocked_by_judge(self) -> bool:
        """Whether a judge has ended the text."""
        return self._judged.blocked

    @property
    def verdicts(self) -> list[guardrails.Verdict]:
        """What the rules have found."""
        return [*(self._stream.verdicts if self._stream else []), *self._judged.verdicts]

    def feed(self, text: str, *, last: bool) -> None:
        """Takes the next piece."""
        if self._judging and self._stream is not None:
            text = self._stream.feed(text) + (self._stream.finish() if last else "")
        self._judged.feed(text, last=last)

    def end(self) -> None:
        """Takes note that no text follows, and that what the matchers hold back never leaves."""
        self._judged.feed("", last=True)

    def open(self) -> None:
        """Lets everything through the matchers from now on, as the policy wants it after a failure."""
        if self._judging and self._stream is not None:
            self._judging = False
            self._judged.feed(self._stream.held)

    def questions(self, limit: int) -> list[judges.Question]:
        """The next windows that judges have to decide about, each once."""
        return self._judged.questions(limit)

    def take(self) -> str:
        """What may leave and has not left yet."""
        return self._judged.take()


class Answer:
    """All choices of one request.

    Args:
        n: number of choices.
        policy: its output rules judge every choice; None lets them through.
        screened: the request after the input rules, for what they found.
    """

    def __init__(
        self,
        n: int,
        policy: screening.EndpointPolicy | None = None,
        screened: screening.Screened | None = None,
    ) -> None:
        self.choices = [Choice(policy) for _ in range(n)]
        self.input_tokens = 0
        self.skipped = 0
        """Windows that judges failed to decide about, and that the policy let pass."""
        self._screened = screened

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.finish_reason is not None for choice in self.choices)

    @property
    def pending(self) -> bool:
        """Whether something may leave that has not left yet."""
        return any(choice.pending for choice in self.choices)

    @property
    def failures(self) -> int:
        """Guardrail failures that the policy let pass."""
        screened = self._screened.failures if self._screened else 0
        return screened + self.skipped + sum(choice.failures for choice in self.choices)

    @property
    def output_tokens(self) -> int:
        """Tokens generated so far, for all choices."""
        return sum(choice.tokens for choice in self.choices)

    def update(self, update: backend.Update) -> None:
        """Takes one update from the engine."""
        self.input_tokens = update.input_tokens or self.input_tokens
        for index, choice in enumerate(self.choices):
            choice.tokens += update.output_tokens[index]
            if update.logprobs is not None:
                choice.logprobs.extend(update.logprobs[index] or [])
            if update.cumulative_logprobs is not None:
                choice.cumulative_logprob = update.cumulative_logprobs[index]
            if update.reasoning is not None:
                choice.reason(update.reasoning[index])
            choice.feed(update.texts[index])
            if update.tool_calls is not None:
                choice.call(update.tool_calls[index])
            reason = update.finish_reasons[index]
            if reason is not None:
                choice.finish(reason)

    def feed(self, text: str) -> None:
        """Adds a text to every choice."""
        for choice in self.choices:
            choice.feed(text)

    def end(self, reason: str) -> None:
        """Ends every choice that is still open, at once."""
        for choice in self.choices:
            choice.cut(reason)

    def block(self) -> None:
        """Ends every choice because of a rule for the prompt."""
        for choice in self.choices:
            choice.block()

    def settle(self) -> None:
        """Takes note of the verdicts of judges."""
        for choice in self.choices:
            choice.settle()

    def questions(self, limit: int) -> list[judges.Question]:
        """The next windows that judges have to decide about, each once."""
        found: list[judges.Question] = []
        for choice in self.choices:
            found += choice.questions(limit - len(found))
        return found

    def outputs(self, request: requests.Request, *, last: bool) -> dict[str, list[Any]]:
        """The outputs of the next response: what has become ready since the one before.

        The last response always tells how each choice ended and the tokens of the whole request. Callers
        that ask by a `return_…` flag get what Triton's vLLM backend gives: the output in every response,
        tokens counted since the response before, and `None` as the reason of a choice that goes on.

        Args:
            request: says what the caller wants.
            last: whether this is the request's last response.
        """
        choices = self.choices
        found: dict[str, list[Any]] = {"text_output": [choice.take() for choice in choices]}
        reasoning = [choice.take_reasoning() for choice in choices]
        if any(reasoning):
            found["reasoning_output"] = reasoning
        calls = [choice.take_calls() for choice in choices]
        if any(calls):
            found["tool_calls"] = [json.dumps(deltas) for deltas in calls]
        if last or request.wants("finish_reason"):
            found["finish_reason"] = [choice.finish_reason or "None" for choice in choices]
        if last or request.wants("num_input_tokens"):
            found["num_input_tokens"] = [self.input_tokens]
        if request.wants("num_output_tokens"):
            found["num_output_tokens"] = [choice.tokens - choice.tokens_sent for choice in choices]
        elif last:
            found["num_output_tokens"] = [choice.tokens for choice in choices]
        if request.wants("logprobs"):
            found["logprobs"] = [json.dumps(choice.logprobs) for choice in choices]
        if request.wants("cumulative_logprob"):
            found["cumulative_logprob"] = [choice.cumulative_logprob for choice in choices]
        for choice in choices:
            choice.tokens_sent = choice.tokens
            choice.logprobs = []
        return found

    def verdicts(self) -> list[dict[str, Any]]:
        """What the rules found, in the form in which clients get it; never the text itself."""
        found = [verdict for choice in self.choices for verdict in choice.verdicts()]
        return (self._screened.verdicts if self._screened else []) + guardrails.summarize(found, "output")
