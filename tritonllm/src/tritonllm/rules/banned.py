"""Rules with phrases of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pydantic

from tritonllm.rules import kinds


class Banned(kinds.Kind):
    """Phrases, matched regardless of case, width, accents, look-alike letters, leet and spacing."""

    phrases: list[kinds.Phrase] = pydantic.Field(
        min_length=1, max_length=1000, description="The phrases to match."
    )
    match: Literal["Word", "Substring"] = pydantic.Field(
        default="Word", description="Word: only between word boundaries. Substring: also inside words."
    )

    accents: Literal["Ignore", "Match"] = pydantic.Field(
        default="Ignore",
        description="Ignore: accents may be left out or added, so that `año` is also `ano`. Match: a phrase is found only with its own.",
    )

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        yield kinds.Phrases(self.phrases, words=self.match == "Word", accents=self.accents == "Match")
