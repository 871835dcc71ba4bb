"""Rules with a regular expression of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm.rules import kinds


class Pattern(kinds.Kind):
    """A regular expression in RE2's syntax, matched in linear time against the text as it is."""

    # An API server's CEL uses RE2 as well: an expression that does not compile fails the rule, with the reason.
    cel: ClassVar[dict[str, tuple[str, str]]] = {
        "regex": ("!''.matches(self)", "matches the empty string, so it would match everywhere")
    }

    regex: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] = pydantic.Field(
        description="The regular expression; must not match the empty string. Start it with `(?i)` to ignore case."
    )

    @pydantic.field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        # Imported here, because few endpoints have patterns.
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            compiled = re2.compile(value, options)
        except re2.error as error:
            reason = error.args[0]
            text = reason.decode() if isinstance(reason, bytes) else str(reason)
            raise PydanticCustomError(
                "bad_regex", "is not a valid RE2 expression: {reason}", {"reason": text}
            ) from None
        if compiled.search("") is not None:
            raise PydanticCustomError("empty_match", "matches the empty string, so it would match everywhere")
        return value

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        yield kinds.Expression(self.regex)
