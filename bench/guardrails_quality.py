"""What guardrails find and what they find wrongly: recall on disguises by language, false positives on clean text.

python bench/guardrails_quality.py > docs/guardrails-quality.md

The disguises are made here. Clean text is what comes with Python and with packages of the development environment.
"""

from __future__ import annotations

import base64
import pathlib
import pydoc_data.topics
import random
import re
import sysconfig
import unicodedata
from collections.abc import Callable, Iterable

import stopwordsiso

from tritonllm import api, guardrails

PHRASES = {
    "en": ["project falcon", "blackbird", "merger with contoso"],
    "de": ["projekt wanderfalke", "übernahme", "größenwahn"],
    "fr": ["projet faucon", "légère", "rachat secret"],
    "es": ["proyecto halcón", "señuelo", "fusión secreta"],
    "tr": ["gizli proje", "şahin", "doğan"],
    "vi": ["dự án chim ưng", "bí mật", "đấu thầu"],
    "ru": ["проект сокол", "секретно", "поглощение"],
    "el": ["έργο γεράκι", "απόρρητο", "συγχώνευση"],
    "ar": ["مشروع الصقر", "سري", "استحواذ"],
    "he": ["פרויקט בז", "סודי", "מיזוגים"],
    "hi": ["परियोजना बाज", "गोपनीय", "विलय"],
    "th": ["โครงการเหยี่ยว", "ความลับ", "ควบรวม"],
    "ja": ["プロジェクトハヤブサ", "極秘", "買収計画"],
    "ko": ["프로젝트 매", "극비문서", "인수합병"],
    "zh": ["猎鹰计划", "绝密", "收购方案"],
}
LATIN = ["en", "de", "fr", "es", "tr", "vi"]
ALPHABETS = [*LATIN, "ru", "el", "ar", "he"]
LOOKALIKES = {
    "latin": dict(zip("aceopxyijs", "асеорхуіјѕ", strict=True)),
    "ru": dict(zip("аеорсухкмтвн", "aeopcyxkmtbh", strict=True)),
    "el": dict(zip("αοικρτυνχε", "aoikptuvxe", strict=True)),
}
LEET = {
    "latin": {"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7", "b": "8"},
    "ru": {"о": "0", "з": "3", "ч": "4", "б": "6"},
    "el": {"ο": "0", "ε": "3"},
}


def _some(phrase: str, table: dict[str, str], chance: random.Random) -> str:
    """A letter of each word replaced, but never all of them."""
    words: list[str] = []
    for word in phrase.split(" "):
        places = [place for place, letter in enumerate(word) if letter in table]
        chosen = set(chance.sample(places, min(len(places), max(1, len(word) // 3))))
        words.append("".join(table[c] if place in chosen else c for place, c in enumerate(word)))
    return " ".join(words)


def _inside(phrase: str, between: str) -> str:
    """Something between the first two letters of each word; a letter keeps its marks."""
    return re.sub(
        r"(?<!\S)(\S[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e4e]*)(?=\w)",
        rf"\1{between}",
        phrase,
    )


def _table(tables: dict[str, dict[str, str]], language: str) -> dict[str, str]:
    return tables["latin" if language in LATIN else language]


Converter = Callable[[str, str, random.Random], str]
CONVERTERS: dict[str, tuple[Converter, Iterable[str]]] = {
    "as it is": (lambda phrase, language, chance: phrase, PHRASES),
    "case": (lambda phrase, language, chance: phrase.upper(), ALPHABETS),
    "decomposed": (lambda phrase, language, chance: unicodedata.normalize("NFD", phrase), PHRASES),
    "leet": (lambda phrase, language, chance: _some(phrase, _table(LEET, language), chance), [*LATIN, "ru", "el"]),
    "look-alikes": (lambda phrase, language, chance: _some(phrase, _table(LOOKALIKES, language), chance), [*LATIN, "ru", "el"]),
    "zero-width": (lambda phrase, language, chance: _inside(phrase, "\u200b"), PHRASES),
    "full-width": (lambda phrase, language, chance: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in phrase), LATIN),
    "letters spelled": (lambda phrase, language, chance: " ".join(max(phrase.split(), key=len)), ALPHABETS),
    "gaps": (lambda phrase, language, chance: phrase.replace(" ", " \u00a0-\n "), PHRASES),
    "repetition": (lambda phrase, language, chance: re.sub(r"(?<!\S)(\w)", r"\1\1\1", phrase, count=1), [*LATIN, "ru", "el", "he"]),
    "kashida": (lambda phrase, language, chance: _inside(phrase, "\u0640\u0640"), ["ar"]),
    "accents left out": (lambda phrase, language, chance: "".join(c for c in unicodedata.normalize("NFD", phrase) if not unicodedata.combining(c)), [*LATIN, "el"]),
    "emphasis": (lambda phrase, language, chance: _inside(phrase, "**"), PHRASES),
    "HTML": (lambda phrase, language, chance: _inside(phrase, "<b></b>").replace(" ", "&nbsp;"), PHRASES),
    "link": (lambda phrase, language, chance: re.sub(r"(\w+)$", r"[\1](https://example.org)", phrase), PHRASES),
    "tag characters": (lambda phrase, language, chance: "".join(chr(0xE0000 + ord(c)) for c in phrase), ["en"]),
    "trademark": (lambda phrase, language, chance: phrase.replace(" ", "™ ") + "®", PHRASES),
    "base64 (not covered)": (lambda phrase, language, chance: base64.b64encode(phrase.encode()).decode(), PHRASES),
    "reversed (not covered)": (lambda phrase, language, chance: phrase[::-1], PHRASES),
}  # fmt: skip


def policy(*rules: dict[str, object]) -> guardrails.Policy:
    """A policy of rules as they stand in an endpoint file."""
    return guardrails.compile([api.Rule.model_validate({"action": "Flag"} | rule) for rule in rules])


def recall() -> None:
    """Prints the share of disguised phrases found, by disguise and language, and what was missed."""
    print("| disguise | " + " | ".join(PHRASES) + " | missed |")
    print("|---|" + "---|" * (len(PHRASES) + 1))
    found_in_all = asked_in_all = 0
    for name, (convert, languages) in CONVERTERS.items():
        cells: dict[str, str] = {}
        missed: list[str] = []
        for language in languages:
            chance = random.Random(language)
            found = asked = 0
            for phrase in PHRASES[language]:
                said = convert(phrase, language, chance)
                if said == phrase and name != "as it is":
                    continue
                wanted = max(phrase.split(), key=len) if name == "letters spelled" else phrase
                asked += 1
                if policy({"name": "a", "banned": {"phrases": [wanted]}}).scan(f"a: {said} .").verdicts:
                    found += 1
                else:
                    missed.append(phrase)
            if asked:
                cells[language] = f"{found / asked:.2f}"
            if "not covered" not in name:
                found_in_all, asked_in_all = found_in_all + found, asked_in_all + asked
        listed = ", ".join(missed) if len(missed) < 6 else f"{len(missed)} phrases"
        print(f"| {name} | " + " | ".join(cells.get(language, "") for language in PHRASES) + f" | {listed} |")
    print(
        f"\nOf all that is covered, {found_in_all} of {asked_in_all} are found: {found_in_all / asked_in_all:.4f}."
    )


def _stopwords(language: str) -> str:
    return " ".join(sorted(stopwordsiso.stopwords(language)))


def _sources(folder: pathlib.Path, pattern: str, limit: int) -> str:
    text = ""
    for path in sorted(folder.rglob(pattern)):
        if len(text) > limit:
            break
        text += path.read_text(encoding="utf-8", errors="ignore")
    return text[:limit]


def clean_texts() -> dict[str, str]:
    """Texts without profanity, by what they are."""
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    root = pathlib.Path(__file__).parents[1]
    words = {
        f"common words, {language}": _stopwords(language)
        for language in ("en", "de", "fr", "es", "ru", "ar", "hi", "tr", "vi")
    }
    return {
        "Python's documentation": " ".join(pydoc_data.topics.topics.values()),
        "documentation of this project": _sources(root / "docs", "*.md", 1_000_000),
        "Python code (standard library)": _sources(library / "asyncio", "*.py", 500_000) + _sources(library / "email", "*.py", 500_000),
        "Python code (packages)": _sources(packages / "starlette", "*.py", 500_000) + _sources(packages / "pydantic", "*.py", 1_000_000),
        "licences and metadata of packages": _sources(packages, "METADATA", 2_000_000),
    } | words  # fmt: skip


def false_positives() -> None:
    """Prints matches of the profanity list, per thousand words, on clean text."""
    rules = policy({"name": "a", "profanity": {}})
    secrets = policy(
        {"name": "a", "pii": {"types": ["card", "iban", "ssn", "phone"]}}, {"name": "b", "secrets": {}}
    )
    print("| text | words | profanity: matches | share of words | what | pii, secrets: matches |")
    print("|---|---|---|---|---|---|")
    for name, text in clean_texts().items():
        found = [
            text[each.start : each.end].strip().replace("|", "\\|") for each in rules.scan(text).verdicts
        ]
        size = len(re.findall(r"\w+", text))
        # Entries of the list that are ordinary words, as any reader of the list expects, are told apart.
        plain = [said for said in found if said.isascii() and said.isalpha()]
        odd = [said for said in found if said not in plain]
        what = ", ".join(sorted({f"`{' '.join(said.split())}`" for said in odd})[:8])
        most = ", ".join(sorted({said.lower() for said in plain})[:6])
        data = len(secrets.scan(text).verdicts)
        print(
            f"| {name} | {size:,} | {len(found)}, of them {len(plain)} as in the list ({most}) | "
            f"{len(odd) / size:.4%} | {what} | {data} |"
        )


if __name__ == "__main__":
    print("# Guardrails: recall and false positives\n")
    print("This page is the output of `python bench/guardrails_quality.py`.\n")
    print("## Recall on disguises\n")
    print("The share of three phrases for each language that a rule `banned` finds.\n")
    recall()
    print("\n## False positives on clean text\n")
    print(
        "Matches of `profanity: {}`. The share counts those that are not simply a word of the list, such as `kill`; with\n"
        "`allow`, a rule leaves out words of the list.\n"
    )
    false_positives()
