"""Input rules: they are applied to a prompt before the engine receives it.

Also checks of texts that need no answer, and what a failure of a rule itself does.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tritonllm import errors, guardrails, pipeline_spec
from tritonllm.guardrails import judges
from tritonllm.render import canonical
from tritonllm.runtime import conversations, requests

log = logging.getLogger(__name__)

LONGEST_CHARACTERS = 1 << 17
"""Maximum length of a text to check, whatever the context: the slowest one, obfuscated throughout, takes about six seconds
of processor time, in steps of some milliseconds."""


@dataclasses.dataclass(frozen=True)
class EndpointPolicy:
    """An endpoint's guardrails, ready to run; None for a direction without rules, no judges without `classifier` rules.

    Attributes:
        longest: maximum length of a text to check, in characters.
    """

    rules: pipeline_spec.Guardrails
    input: guardrails.Policy | None
    output: guardrails.Policy | None
    judges: Mapping[str, tuple[judges.Judge, ...]]
    longest: int = LONGEST_CHARACTERS

    @classmethod
    def load(cls, packed: str, prompt_characters: int = LONGEST_CHARACTERS) -> EndpointPolicy:
        """Unpacks and compiles the config parameter `policy`.

        Args:
            packed: the parameter.
            prompt_characters: how long a text can be that fits into the endpoint's context.
        """
        rules = pipeline_spec.Guardrails.model_validate(canonical.unpack(packed))
        return cls(
            rules,
            guardrails.compile(rules.input) if rules.input else None,
            guardrails.compile(rules.output) if rules.output else None,
            {
                "input": judges.compile(rules.input, "input"),
                "output": judges.compile(rules.output, "output"),
            },
            min(prompt_characters, LONGEST_CHARACTERS),
        )

    @property
    def classifiers(self) -> list[str]:
        """Names of the classifiers that the rules ask."""
        return sorted({judge.model for found in self.judges.values() for judge in found})

    def failed(self, direction: str) -> None:
        """Handles the exception of a guardrail that is being handled.

        Raises:
            RequestError: the policy is to fail closed.
        """
        log.exception("the %s guardrail failed", direction)
        self._withhold(direction, "")

    def unjudged(self, judge: judges.Judge, reason: BaseException) -> None:
        """Handles a window that could not be judged.

        Args:
            judge: who was to decide.
            reason: why.

        Raises:
            RequestError: the policy is to fail closed.
        """
        names = ", ".join(rule.name for rule in judge.rules)
        text = str(reason) or repr(reason)
        log.error("the %s guardrail failed: %s: %s", judge.direction, names, text)
        self._withhold(judge.direction, f" ({names}: {text})")

    def _withhold(self, direction: str, reason: str) -> None:
        if self.rules.failure_policy == "Closed":
            raise errors.RequestError(
                "guardrail_failure", "", f"the {direction} guardrail failed{reason}, so this text is withheld"
            ) from None


@dataclasses.dataclass(frozen=True, slots=True)
class Screened:
    """A request after the input rules.

    Attributes:
        request: with masked texts where rules say so.
        blocked: whether a rule refused it.
        verdicts: what was found, in the clients' form, with the first field in which it was.
        failures: guardrail failures that the policy let pass.
    """

    request: requests.Request
    blocked: bool
    verdicts: list[dict[str, Any]]
    failures: int


def screen(
    request: requests.Request, policy: EndpointPolicy | None, ended: Callable[[], bool] = lambda: False
) -> Screened:
    """Applies the input rules to the prompt, or to every text of the conversation and its options.

    Args:
        request: what the client sent.
        policy: None has no rules.
        ended: asked every few milliseconds whether the request has ended meanwhile, which makes the result useless.

    Raises:
        RequestError: `guardrail_failure`; `cancelled` if it has ended.
    """
    if policy is None or policy.input is None:
        return Screened(request, False, [], 0)
    found: list[guardrails.Verdict] = []
    fields: dict[str, str] = {}
    blocked = False
    failures = 0

    def masked(field: str, text: str) -> str:
        nonlocal blocked, failures
        if not text:
            return text
        try:
            result = _scan(rules, text, ended)
        except errors.RequestError:
            raise
        except Exception:
            policy.failed("input")
            failures += 1
            return text
        found.extend(result.verdicts)
        for verdict in result.verdicts:
            fields.setdefault(verdict.rule, field)
        blocked = blocked or result.blocked
        return result.text

    rules = policy.input
    if request.text is not None:
        request = dataclasses.replace(request, text=masked("text_input", request.text))
    else:
        request = dataclasses.replace(
            request,
            messages=conversations.map_messages(request.messages or [], masked),
            chat=conversations.map_options(request.chat, masked),
        )
    verdicts = [
        verdict | {"field": fields[verdict["rule"]]} for verdict in guardrails.summarize(found, "input")
    ]
    return Screened(request, blocked, verdicts, failures)


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What the rules of one direction say of a text.

    Attributes:
        text: with masked spans where rules say so; empty if it is blocked.
        blocked: whether a rule blocks it.
        verdicts: what was found.
        direction: whose rules they were.
    """

    text: str
    blocked: bool
    verdicts: list[guardrails.Verdict]
    direction: str

    @property
    def guardrail(self) -> str:
        """JSON of what was found, in the clients' form."""
        return json.dumps(guardrails.summarize(self.verdicts, self.direction))


def check(policy: EndpointPolicy, text: str, direction: str) -> Checked:
    """Applies the rules of one direction to a text that needs no answer, without judges; see `judging.check`.

    Raises:
        RequestError: `invalid_argument`.
    """
    if direction not in ("input", "output"):
        raise errors.RequestError("invalid_argument", "direction", "must be `input` or `output`")
    if len(text) > policy.longest:
        raise errors.RequestError(
            "invalid_argument",
            "text_input",
            f"has {len(text)} characters; the maximum is {policy.longest}; send it in parts",
        )
    rules = policy.input if direction == "input" else policy.output
    if rules is None:
        return Checked(text, False, [], direction)
    result = rules.scan(text)
    return Checked("" if result.blocked else result.text, result.blocked, result.verdicts, direction)


def _scan(rules: guardrails.Policy, text: str, ended: Callable[[], bool]) -> guardrails.Result:
    steps = rules.scan_steps(text)
    while not ended():
        try:
            next(steps)
        except StopIteration as end:
            return end.value
    raise errors.RequestError("cancelled", "", "the request ended before its rules were applied")
