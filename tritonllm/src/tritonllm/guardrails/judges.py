"""Judges: the rules that a classifier decides about windows of a text, after the matchers. Pure; who asks it is elsewhere.

    text = JudgedText(judges)
    text.feed("what the matchers have released")
    for question in text.questions():
        question.answer({"toxic": 0.93, "fine": 0.07})     # or question.skip()
    send(text.take())

With `Hold`, a character leaves when every window that contains it has been judged, so what leaves depends on the text and
the classifier alone: not on the pieces in which the text arrived, nor on how fast verdicts are. With `Observe`, text leaves
at once, and a match ends the rest of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tritonllm.guardrails import stream, windows
from tritonllm.rules import Rule


class UnknownLabel(ValueError):
    """A rule looks for a label that its classifier does not have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judge:
    """Rules that ask the same classifier about the same windows.

    Attributes:
        direction: `input` or `output`.
        model: the classifier.
        window: size of the windows in characters.
        hold: whether text is held back until it has been judged.
        timeout_seconds: how long one window may take.
        rules: what decides about its scores.
    """

    direction: str
    model: str
    window: int
    hold: bool
    timeout_seconds: float
    rules: tuple[Rule, ...]

    def matching(self, scores: Mapping[str, float]) -> list[Rule]:
        """The rules that match, by the score of each label.

        Raises:
            UnknownLabel: a rule looks for a label without a score. It would never match, in silence.
        """
        found: list[Rule] = []
        for rule in self.rules:
            assert rule.classifier is not None
            unknown = [label for label in rule.classifier.labels if label not in scores]
            if unknown:
                raise UnknownLabel(
                    f"rule {rule.name}: the classifier {self.model} has no label {unknown[0]!r}; it has"
                    f" {', '.join(map(repr, sorted(scores)))}"
                )
            if max(scores[label] for label in rule.classifier.labels) >= rule.classifier.threshold:
                found.append(rule)
        return found


def compile(rules: Iterable[Rule], direction: str) -> tuple[Judge, ...]:
    """The judges of one direction; rules that differ in labels and threshold only share one."""
    shared: dict[tuple[str, int, bool, float], list[Rule]] = {}
    for rule in rules:
        if (asks := rule.classifier) is not None:
            key = (asks.model, asks.window, asks.mode == "Hold", asks.timeout_seconds)
            shared.setdefault(key, []).append(rule)
    return tuple(Judge(direction, *key, tuple(same)) for key, same in shared.items())


class Question:
    """A window that a judge has to decide about: answered or skipped, once.

    Attributes:
        judge: who decides.
        text: what the classifier reads.
    """

    def __init__(self, judge: Judge, text: str, progress: _Progress, window: windows.Window) -> None:
        self.judge = judge
        self.text = text
        self._progress = progress
        self._window = window

    def answer(self, scores: Mapping[str, float]) -> list[Rule]:
        """Takes the score of each label; returns the rules that match.

        Raises:
            UnknownLabel: see `Judge.matching`.
        """
        found = self.judge.matching(scores)
        self._progress.judged(self._window, found)
        return found

    def skip(self) -> None:
        """Lets the window pass unjudged."""
        self._progress.judged(self._window, [])


class JudgedText:
    """One growing text under the judges of its direction; not for several threads at once.

    Attributes:
        blocked: whether a rule has ended the text; nothing more leaves.
        verdicts: what was found so far, one for each window and rule.

    Args:
        judges: of its direction.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.blocked = False
        self.verdicts: list[stream.Verdict] = []
        self._progress = [_Progress(self, judge) for judge in judges]
        self._unasked: list[Question] = []
        # The text from `_taken` on.
        self._text = ""
        self._taken = 0
        # Where a rule with `Hold` ends the text, once all before has been judged.
        self._cut: int | None = None

    def feed(self, text: str, *, last: bool = False) -> None:
        """Takes more of the text, or its end."""
        if self.blocked:
            return
        self._text += text
        for progress in self._progress:
            self._unasked += progress.feed(text, last=last)
        self._settle()

    def questions(self, limit: int | None = None) -> list[Question]:
        """The next windows to ask about, each once.

        Args:
            limit: maximum number.
        """
        found, self._unasked = self._unasked[:limit], self._unasked[limit:] if limit is not None else []
        return found

    @property
    def undecided(self) -> bool:
        """Whether a window has not been judged yet that can still change something."""
        return not self.blocked and any(progress.open for progress in self._progress)

    @property
    def held(self) -> bool:
        """Whether text is held back until it has been judged."""
        return not self.blocked and any(progress.judge.hold and progress.open for progress in self._progress)

    @property
    def pending(self) -> bool:
        """Whether text may leave that has not left yet."""
        return self._limit() > self._taken

    def take(self) -> str:
        """The text that may leave and has not left yet."""
        size = self._limit() - self._taken
        text, self._text = self._text[:size], self._text[size:]
        self._taken += size
        return text

    def _limit(self) -> int:
        """Up to where text may leave."""
        if not self._progress:
            return self._taken + len(self._text)
        limits = [progress.judged_up_to for progress in self._progress if progress.judge.hold]
        if self._cut is not None:
            limits.append(self._cut)
        return max(self._taken, min([*limits, self._taken + len(self._text)]))

    def _found(self, judge: Judge, window: windows.Window, rules: Sequence[Rule]) -> None:
        if self.blocked:
            return
        for rule in rules:
            self.verdicts.append(stream.Verdict(rule.name, rule.action, window.start, window.end))
        if any(rule.action == "Block" for rule in rules):
            # What has left is not taken back.
            cut = window.start if judge.hold else max(window.start, self._taken)
            self._cut = cut if self._cut is None else min(cut, self._cut)
        self._settle()

    def _settle(self) -> None:
        if self._cut is not None and self._limit() >= min(self._cut, self._taken + len(self._text)):
            self.blocked = True
            self._text = self._text[: self._limit() - self._taken]
            self._unasked.clear()


class _Progress:
    """How far one judge is with one text. Verdicts count in the order of the text, in whatever order they come."""

    def __init__(self, text: JudgedText, judge: Judge) -> None:
        self.judge = judge
        self._text = text
        self._windows = windows.Windows(judge.window)
        # Windows without a verdict, and those whose verdict came before that of an earlier one.
        self.open: dict[windows.Window, list[Rule] | None] = {}
        self._finished = False

    def feed(self, text: str, *, last: bool) -> list[Question]:
        found = self._windows.feed(text)
        if last and not self._finished:
            self._finished = True
            found += self._windows.finish()
        self.open.update(dict.fromkeys(found))
        return [Question(self.judge, window.text, self, window) for window in found]

    def judged(self, window: windows.Window, rules: list[Rule]) -> None:
        self.open[window] = rules
        while self.open:
            first = next(iter(self.open))
            verdict = self.open[first]
            if verdict is None:
                break
            del self.open[first]
            self._text._found(self.judge, first, verdict)

    @property
    def judged_up_to(self) -> int:
        """Before this offset, every character is in judged windows only."""
        return next(iter(self.open)).start if self.open else self._windows.start
