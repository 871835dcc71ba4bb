"""The rules of one direction, ready to run: compiled once, shared by every request and thread."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from tritonllm import api
from tritonllm.guardrails import checked, data_types, patterns, phrases, spans, stream, trie, words


class PolicyError(ValueError):
    """A rule that can't be run; its text names the rule."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a policy makes of a text.

    Attributes:
        text: what may leave: masked, and cut before what was blocked.
        blocked: whether a rule ended it.
        verdicts: what was found, in the order of the text.
    """

    text: str
    blocked: bool
    verdicts: list[stream.Verdict]


class Policy:
    """Compiled rules; immutable.

    Attributes:
        rules: the rules, by the numbers in matchers' spans; a rule of several types of data is there for each.
        matchers: what finds their matches.
    """

    def __init__(self, rules: Sequence[api.Rule], matchers: Sequence[spans.Matcher]) -> None:
        self.rules = rules
        self.matchers = matchers

    def stream(self) -> stream.Stream:
        """A new text that arrives in pieces."""
        return stream.Stream(self)

    def scan(self, text: str) -> Result:
        """Judges a whole text."""
        steps = self.scan_steps(text)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def scan_steps(self, text: str) -> Generator[None, None, Result]:
        """Judges a whole text in steps of a few milliseconds, between which the caller can do other work.

            steps = policy.scan_steps(text)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value
                await asyncio.sleep(0)

        Args:
            text: of any length.

        Returns:
            The result, as the generator's value; nothing is judged behind a block.
        """
        judged = self.stream()
        released: list[str] = []
        for piece in judged.finish_steps(text):
            released.append(piece)
            yield
        return Result("".join(released), judged.blocked, judged.verdicts)


def compile(rules: Sequence[api.Rule]) -> Policy:
    """Makes rules ready to run.

    Args:
        rules: of one direction.

    Raises:
        PolicyError: a phrase of which nothing is left to look for, such as one of spaces alone.
    """
    at_words: list[tuple[str, int]] = []
    anywhere: list[tuple[str, int]] = []
    matchers: list[spans.Matcher] = []
    masks = list(rules)
    for number, rule in enumerate(rules):
        if rule.pattern is not None:
            matchers.append(patterns.Pattern(rule.pattern.regex, number))
        elif rule.profanity is not None:
            allowed = {trie.normalize(word) for word in rule.profanity.allow}
            at_words += [(word, number) for word in words.profanity() if trie.normalize(word) not in allowed]
        elif rule.banned is not None:
            for phrase in rule.banned.phrases:
                if not trie.normalize(phrase):
                    raise PolicyError(
                        f"rule {rule.name}: nothing is left of the phrase {phrase!r} when it is folded"
                    )
            wanted = at_words if rule.banned.match == "Word" else anywhere
            wanted += [(phrase, number) for phrase in rule.banned.phrases]
        else:
            for data in _data_types(rule):
                matchers.append(checked.Checked(data.regex, data.check, len(masks)))
                masks.append(_with_placeholder(rule, data.placeholder))
    if at_words:
        matchers.append(phrases.Phrases(at_words, words=True))
    if anywhere:
        matchers.append(phrases.Phrases(anywhere, words=False))
    return Policy(masks, matchers)


def _data_types(rule: api.Rule) -> list[data_types.DataType]:
    if rule.pii is not None:
        return [data_types.PERSONAL[name] for name in dict.fromkeys(rule.pii.types)]
    return list(data_types.SECRETS.values())


def _with_placeholder(rule: api.Rule, placeholder: str) -> api.Rule:
    """The rule for one type of data: verdicts have its name, masks the placeholder of the type."""
    if rule.replacement != api.Rule.model_fields["replacement"].default:
        return rule
    return rule.model_copy(update={"replacement": placeholder})


def summarize(verdicts: Iterable[stream.Verdict], direction: str) -> list[dict[str, Any]]:
    """Verdicts as clients get them: how often each rule matched, and never where or what.

    Args:
        verdicts: what was found.
        direction: `input` or `output`.
    """
    counts = Counter((verdict.rule, verdict.action) for verdict in verdicts)
    return [
        {"rule": rule, "action": action, "direction": direction, "count": count}
        for (rule, action), count in sorted(counts.items())
    ]
