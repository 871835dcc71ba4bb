"""What a kind of rule is: a model whose fields are its schema, and which says what is searched for.

A new kind is a subclass in a module of its own, and a field of `rules.Rule`. The JSON schema, the CRD with its CEL, the
reference in docs/api.md and the compiled policy follow from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Annotated, ClassVar

import pydantic

from tritonllm import schema

MAX_CHARACTERS = 256
Phrase = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]


@dataclasses.dataclass(frozen=True, slots=True)
class Phrases:
    """A search for phrases in any disguise.

    Attributes:
        phrases: what to find.
        words: whether at word boundaries only.
        accents: whether only with their own accents.
        allowed: phrases that are left out, in any spelling.
        of_the_author: whether the phrases stand in the rule itself, and not in a list that comes with the package.
    """

    phrases: Iterable[str]
    words: bool
    accents: bool = False
    allowed: Iterable[str] = ()
    of_the_author: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Expression:
    """A search for the matches of a regular expression in RE2's syntax."""

    regex: str


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    """A search for data of one type, which a pattern proposes and a check confirms.

    Attributes:
        placeholder: what replaces it with `action: Mask`.
        regex: what to propose, in RE2's syntax.
        confirmed: how many characters at the beginning of a proposed text are of the type; 0 if it is not.
        cost: of confirming, in units of about 10 µs.
    """

    placeholder: str
    regex: str
    confirmed: Callable[[str], int] = len
    cost: int = 1


Search = Phrases | Expression | Data


class Kind(schema.Model):
    """One kind of rule.

    Attributes:
        cel: by field, a CEL expression that a value must satisfy beside its schema, and the message otherwise.
        maskable: whether it finds characters that can be replaced.
    """

    cel: ClassVar[dict[str, tuple[str, str]]] = {}
    maskable: ClassVar[bool] = True

    def searches(self) -> Iterable[Search]:
        """What the guardrails search for; imports what only this kind needs."""
        raise NotImplementedError
