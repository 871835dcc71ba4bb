"""Asks classifiers about windows of texts, for an event loop that never waits for them.

Texts that wait for the same classifier go together in one unary call, and while it is on its way the next ones gather: under
load calls become larger, not more. Triton puts the calls of several pipelines together once more.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from tritonllm import errors
from tritonllm.guardrails import judges
from tritonllm.runtime import screening

Scores = Mapping[str, float]
"""The score of each label."""

Answers = list[dict[str, float]]
"""The scores of each text of a call."""

OUTCOMES = ("pass", "match", "failure", "timeout")
"""How a rule can come out of a question."""

TEXTS_PER_CALL = 32
WINDOWS_AT_ONCE = 16
"""Windows of one request that wait for verdicts at a time: the others come after those of other requests."""


class Classifiers(Protocol):
    """How classifiers are called; see `classifier_calls`."""

    def call(self, model: str, texts: Sequence[str], answer: Callable[[object], None]) -> None:
        """Asks a classifier about texts.

        Args:
            model: its name.
            texts: at most `TEXTS_PER_CALL`.
            answer: called once, from any thread, with `Answers`, or with an exception.
        """
        ...

    def leave(self) -> None:
        """Takes note that Triton has begun to end this model, and answers no calls of it any more."""
        ...

    def close(self) -> None:
        """Ends its threads."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """How a question ended, for the metrics.

    Attributes:
        judge: who was asked.
        matching: names of the rules that match.
        problem: `timeout`, `failure`, or empty; see `OUTCOMES`.
        seconds: from the question to the answer.
    """

    judge: judges.Judge
    matching: frozenset[str]
    problem: str
    seconds: float


@dataclasses.dataclass(slots=True, eq=False)
class _Asked:
    text: str
    answer: asyncio.Future[Scores]


class Judging:
    """The questions of one process to all its classifiers. One event loop owns everything here.

    Args:
        loop: the event loop.
        classifiers: whom to ask.
        on_judgement: called with how each question ended, except for those that were cancelled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        classifiers: Classifiers,
        on_judgement: Callable[[Judgement], None],
    ) -> None:
        self._loop = loop
        self._classifiers = classifiers
        self._on_judgement = on_judgement
        self._waiting: dict[str, collections.deque[_Asked]] = {}
        self._busy: set[str] = set()

    def ask(self, question: judges.Question) -> asyncio.Future[Scores]:
        """Asks about a window. To cancel the future withdraws the question.

        Returns:
            The scores; or TimeoutError, or what the call failed with.
        """
        judge = question.judge
        asked = _Asked(question.text, self._loop.create_future())
        timer = self._loop.call_later(judge.timeout_seconds, self._expire, judge, asked)
        asked.answer.add_done_callback(lambda _: timer.cancel())
        self._waiting.setdefault(judge.model, collections.deque()).append(asked)
        # Soon, and not at once: all windows that this turn of the loop brings go together.
        self._loop.call_soon(self._call, judge.model)
        return asked.answer

    def decide(
        self,
        policy: screening.EndpointPolicy,
        question: judges.Question,
        answer: asyncio.Future[Scores],
        asked: float,
    ) -> bool:
        """Takes the answer to a question.

        Args:
            policy: says what a failure does.
            question: that was asked.
            answer: what `ask` has returned; it is done.
            asked: the loop's time of the question.

        Returns:
            Whether the window was judged; otherwise the policy lets it pass.

        Raises:
            RequestError: it was not judged, and the policy does not let it pass.
        """
        problem = ""
        matching: frozenset[str] = frozenset()
        try:
            matching = frozenset(rule.name for rule in question.answer(answer.result()))
        except Exception as error:
            problem = "timeout" if isinstance(error, TimeoutError) else "failure"
            policy.unjudged(question.judge, error)
            question.skip()
        finally:
            seconds = self._loop.time() - asked
            self._on_judgement(Judgement(question.judge, matching, problem, seconds))
        return not problem

    async def check(self, policy: screening.EndpointPolicy, checked: screening.Checked) -> screening.Checked:
        """Applies the judges to a text that the matchers of `screening.check` have let through.

        Raises:
            RequestError: `guardrail_failure`.
        """
        direction = policy.judges[checked.direction]
        if checked.blocked or not direction:
            return checked
        text = judges.JudgedText(direction)
        text.feed(checked.text, last=True)
        while some := text.questions(WINDOWS_AT_ONCE):
            asked = [(question, self._loop.time(), self.ask(question)) for question in some]
            try:
                await asyncio.wait([answer for _, _, answer in asked])
                for question, at, answer in asked:
                    self.decide(policy, question, answer, at)
            finally:
                withdraw(answer for _, _, answer in asked)
        return dataclasses.replace(
            checked,
            text="" if text.blocked else checked.text,
            blocked=text.blocked,
            verdicts=[*checked.verdicts, *text.verdicts],
        )

    def leave(self) -> None:
        """Takes note that Triton has begun to end this model; what is asked from now on is for its last requests."""
        self._classifiers.leave()

    def close(self) -> None:
        """Ends the threads of the calls."""
        self._classifiers.close()

    def _call(self, model: str) -> None:
        waiting = self._waiting[model]
        some: list[_Asked] = []
        while waiting and len(some) < TEXTS_PER_CALL and model not in self._busy:
            asked = waiting.popleft()
            if not asked.answer.done():
                some.append(asked)
        if some:
            self._busy.add(model)

            def answered(answer: object) -> None:
                self._loop.call_soon_threadsafe(self._answered, model, some, answer)

            self._classifiers.call(model, [asked.text for asked in some], answered)

    def _answered(self, model: str, some: list[_Asked], answer: object) -> None:
        self._busy.discard(model)
        problem = answer if isinstance(answer, BaseException) else None
        scores = [] if problem else answer
        if not problem and (not isinstance(scores, list) or len(scores) != len(some)):
            problem = errors.RequestError("internal", "", f"the classifier {model} did not answer every text")
        for index, asked in enumerate(some):
            if asked.answer.done():
                continue
            if problem:
                asked.answer.set_exception(problem)
            else:
                asked.answer.set_result(scores[index])  # pyright: ignore[reportIndexIssue]
        self._call(model)

    def _expire(self, judge: judges.Judge, asked: _Asked) -> None:
        if not asked.answer.done():
            asked.answer.set_exception(
                TimeoutError(
                    f"the classifier {judge.model} did not answer within {judge.timeout_seconds:g} s"
                )
            )


def withdraw(answers: Iterable[asyncio.Future[Scores]]) -> None:
    """Cancels questions, because their request has ended."""
    for answer in list(answers):
        answer.cancel()
