"""Rules with a word list that comes with the package."""

from __future__ import annotations

from collections.abc import Iterator

import pydantic

from tritonllm.rules import kinds


class Profanity(kinds.Kind):
    """The word list of better_profanity."""

    allow: list[kinds.Phrase] = pydantic.Field(
        default_factory=list,
        max_length=1000,
        description="Entries of the list that are allowed, such as `god`.",
    )

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        from tritonllm.rules import words

        yield kinds.Phrases(words.profanity(), words=True, allowed=self.allow)
