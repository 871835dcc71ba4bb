"""Word lists of other packages, as data.

English is better_profanity's. Its matcher is left alone: it needs a millisecond a word, and misses words in quotes and in
bold. The other languages are those of glin-profanity (MIT; most of them from the List of Dirty, Naughty, Obscene, and
Otherwise Bad Words, CC BY 4.0).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib

_NAMES = {
    "ar": "arabic", "cs": "czech", "da": "danish", "de": "german", "eo": "esperanto", "es": "spanish", "fa": "persian",
    "fi": "finnish", "fr": "french", "hi": "hindi", "hu": "hungarian", "it": "italian", "ja": "japanese", "ko": "korean",
    "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ru": "russian", "sv": "swedish", "th": "thai",
    "tr": "turkish", "zh": "chinese",
}  # fmt: skip


@functools.cache
def profanity(language: str = "en") -> tuple[str, ...]:
    """The list's entries, less those with full stops: others of the list find them, as words that are spelled."""
    if language == "en":
        text = _data("better_profanity", "profanity_wordlist.txt")
        entries = [line.strip() for line in text.splitlines()]
    else:
        entries = json.loads(_data("glin_profanity", f"data/dictionaries/{_NAMES[language]}.json"))["words"]
    return tuple(entry for entry in entries if entry and "." not in entry)


def _data(package: str, path: str) -> str:
    # Found without an import, which would load the package's own matchers.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed")
    return (pathlib.Path(spec.submodule_search_locations[0]) / path).read_text(encoding="utf-8")
