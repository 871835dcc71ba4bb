"""The rules of an endpoint's guardrails: one module for each kind, and the table of all."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm import schema
from tritonllm.rules.banned import Banned
from tritonllm.rules.classifier import Classifier
from tritonllm.rules.kinds import Kind
from tritonllm.rules.pattern import Pattern
from tritonllm.rules.pii import Pii
from tritonllm.rules.profanity import Profanity
from tritonllm.rules.secrets import Secrets


class Rule(schema.Model):
    """What to look for, and what to do if it is found."""

    name: schema.Name = pydantic.Field(description="Name of the rule in verdicts and metrics.")
    action: Literal["Block", "Mask", "Flag"] = pydantic.Field(
        description="Block: refuse the request, or end the answer. Mask: replace each match. Flag: only report it."
    )
    # The kinds: every optional field is one.
    banned: Banned | None = None
    profanity: Profanity | None = None
    pattern: Pattern | None = None
    pii: Pii | None = None
    secrets: Secrets | None = None
    classifier: Classifier | None = None
    replacement: Annotated[str, pydantic.StringConstraints(max_length=64)] = pydantic.Field(
        default="[REDACTED]",
        description="Replacement for each match, with `action: Mask`. With `pii` and `secrets`, the default stands for the type: [EMAIL], [CARD], [IBAN], [SSN], [IP], [PHONE], [ID], [SECRET].",
    )

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Rule:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise PydanticCustomError("one_kind", "exactly one of {kinds} is required", {"kinds": in_words()})
        if self.action == "Mask" and not self.kind.maskable:
            raise PydanticCustomError("not_maskable", NOT_MASKABLE)
        return self

    @property
    def kind(self) -> Kind:
        """The one that is set."""
        return next(kind for name in KINDS if (kind := getattr(self, name)) is not None)

    @property
    def has_own_replacement(self) -> bool:
        """Whether masks are not the default; by value, because policies travel with their defaults."""
        return self.replacement != type(self).model_fields["replacement"].default


KINDS = tuple(name for name, field in Rule.model_fields.items() if field.default is None)


NOT_MASKABLE = (
    "`action: Mask` is not supported by `classifier`, which judges a window as a whole; use Block or Flag"
)


def in_words() -> str:
    """The kinds of rule, as messages list them."""
    *others, last = (f"`{kind}`" for kind in KINDS)
    return f"{', '.join(others)} and {last}"
