"""The rules of one direction, ready to run: compiled once, shared by every request and thread."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from tritonllm.guardrails import boundaries, checked, patterns, phrases, spans, stream, trie
from tritonllm.rules import Rule, kinds


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

    def __init__(self, rules: Sequence[Rule], matchers: Sequence[spans.Matcher]) -> None:
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


def compile(rules: Sequence[Rule]) -> Policy:
    """Makes rules ready to run.

    Args:
        rules: of one direction.

    Raises:
        PolicyError: a phrase of which nothing is left to look for, such as one of spaces alone; a list of phrases that
            was not read; a pattern that can't be compiled for letters of all scripts.
    """
    masks, matchers, by_boundary = _read(rules)
    for words, found in by_boundary.items():
        if found:
            matchers.append(phrases.Phrases(found, words=words))
    return Policy(masks, matchers)


def check(rules: Sequence[Rule]) -> None:
    """Raises what `compile` raises, without the search of phrases, which takes most of its time and never fails.

    Args:
        rules: of one direction.

    Raises:
        PolicyError: as for `compile`.
    """
    _read(rules)


def _read(
    rules: Sequence[Rule],
) -> tuple[list[Rule], list[spans.Matcher], dict[bool, list[phrases.Wanted]]]:
    """The rules by the numbers in spans, the matchers of all but phrases, and the phrases by whether they are words."""
    by_boundary: dict[bool, list[phrases.Wanted]] = {True: [], False: []}
    matchers: list[spans.Matcher] = []
    masks = list(rules)
    for number, rule in enumerate(rules):
        if rule.banned is not None and rule.banned.config_map_ref is not None:
            raise PolicyError(
                f"rule {rule.name}: the ConfigMap of `configMapRef` was not read; write its phrases in `phrases`"
            )
        for search in rule.kind.searches():
            match search:
                case kinds.Phrases():
                    by_boundary[search.words] += [
                        phrases.Wanted(phrase, number, search.accents) for phrase in _wanted(rule, search)
                    ]
                case kinds.Expression():
                    try:
                        matchers.append(patterns.Pattern(search.regex, number))
                    except boundaries.Unsupported as error:
                        raise PolicyError(f"rule {rule.name}: pattern: {error}") from None
                case kinds.Data():
                    matchers.append(checked.Checked(search, len(masks)))
                    masks.append(_with_placeholder(rule, search.placeholder))
    return masks, matchers, by_boundary


def _wanted(rule: Rule, search: kinds.Phrases) -> list[str]:
    allowed = {trie.normalize(phrase) for phrase in search.allowed}
    wanted: list[str] = []
    for phrase in search.phrases:
        normalized = trie.normalize(phrase)
        if not normalized:
            raise PolicyError(f"rule {rule.name}: nothing is left of the phrase {phrase!r} when it is folded")
        if normalized not in allowed:
            wanted.append(phrase)
    return wanted


def warnings(rules: Sequence[Rule]) -> list[str]:
    """What is valid and probably not meant: phrases that match more than their author expects, and patterns that delay streams.

    Args:
        rules: of one direction.
    """
    return [
        f"rule {rule.name}: {warning}"
        for rule in rules
        for search in rule.kind.searches()
        for warning in _warnings(search)
    ]


def _warnings(search: kinds.Search) -> Iterable[str]:
    if isinstance(search, kinds.Phrases) and search.of_the_author:
        # Common words of all languages, which only authors need to know.
        from tritonllm.guardrails import common_words

        return common_words.warnings(search)
    return patterns.warnings(search.regex) if isinstance(search, kinds.Expression) else ()


def _with_placeholder(rule: Rule, placeholder: str) -> Rule:
    """The rule for one type of data: verdicts have its name, masks the placeholder of the type."""
    return rule if rule.has_own_replacement else rule.model_copy(update={"replacement": placeholder})


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
