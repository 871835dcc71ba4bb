"""The word list of better_profanity, as data.

Its matcher is left alone: it needs a millisecond a word, and misses words in quotes and in bold.
"""

from __future__ import annotations

import functools
import importlib.resources


@functools.cache
def profanity() -> tuple[str, ...]:
    """The list's entries, less those with full stops: others of the list find them, as words that are spelled."""
    text = (importlib.resources.files("better_profanity") / "profanity_wordlist.txt").read_text(
        encoding="utf-8"
    )
    entries = (line.strip() for line in text.splitlines())
    return tuple(entry for entry in entries if entry and "." not in entry)
