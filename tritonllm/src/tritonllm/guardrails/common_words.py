"""Phrases that match more than their author expects, because normalization makes something common of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import stopwordsiso

from tritonllm.guardrails import accents, trie
from tritonllm.rules import kinds

# Shorter words of the lists are abbreviations and single letters, too.
_SHORTEST = 2


def warnings(search: kinds.Phrases) -> Iterator[str]:
    """One warning for each phrase of which too little is left, or a common word of some language."""
    for phrase in search.phrases:
        folded = trie.normalize(phrase)
        if len(folded) == 1:
            yield f"the phrase {phrase!r} has one letter when it is folded, and matches wherever that letter stands by itself"
        elif not search.accents and accents.of(phrase) and (languages := _languages().get(folded)):
            yield (
                f"the phrase {phrase!r} is folded to {folded!r}, a common word ({', '.join(languages[:4])}); set `accents: "
                "Match` to find it only with its accents"
            )


@functools.cache
def _languages() -> dict[str, list[str]]:
    """The languages of common words that are written without accents."""
    found: dict[str, dict[str, None]] = {}
    for language in sorted(stopwordsiso.langs()):
        for word in stopwordsiso.stopwords(language):
            if len(word) >= _SHORTEST and not accents.of(word):
                found.setdefault(word.casefold(), {})[language] = None
    return {word: list(languages) for word, languages in found.items()}
