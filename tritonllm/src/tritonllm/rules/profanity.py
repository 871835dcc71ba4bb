"""Rules with word lists that come with packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic

from tritonllm.rules import kinds

Language = Literal[
    "ar", "cs", "da", "de", "en", "eo", "es", "fa", "fi", "fr", "hi", "hu", "it", "ja", "ko", "nl", "no", "pl", "pt", "ru",
    "sv", "th", "tr", "zh",
]  # fmt: skip


class Profanity(kinds.Kind):
    """Word lists: of better_profanity for English, of glin-profanity for other languages."""

    languages: Annotated[list[Language], pydantic.Field(min_length=1, max_length=24)] = pydantic.Field(
        default_factory=lambda: list[Language](["en"]),
        description="Languages of the words, by ISO 639-1 code.",
    )
    allow: list[kinds.Phrase] = pydantic.Field(
        default_factory=list,
        max_length=1000,
        description="Entries of the lists that are allowed, such as `god`.",
    )

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        from tritonllm.rules import words

        for language in dict.fromkeys(self.languages):
            yield kinds.Phrases(
                words.profanity(language), words=True, allowed=self.allow, of_the_author=False
            )
