"""The word list of better_profanity: all that it finds is found, in more disguises, and clean prose is not."""

from __future__ import annotations

import importlib.resources
import typing
from collections.abc import Iterator

import pytest
from policies import masked, profanity, rule

from tritonllm import guardrails
from tritonllm.rules import words
from tritonllm.rules.profanity import Language

POLICY = profanity()

# A full stop or star at the end of an entry is none of its letters.
ENTRIES = [
    entry.strip().rstrip(".*")
    for entry in (importlib.resources.files("better_profanity") / "profanity_wordlist.txt")
    .read_text(encoding="utf-8")
    .splitlines()
    if entry.strip()
]

# The substitutions of better_profanity 0.7.0.
LEET = {"a": "@*4", "e": "*3", "i": "*l1", "o": "*0@", "u": "*v", "v": "*u", "l": "1", "s": "$5", "t": "7"}
CYRILLIC = dict(zip("aceijkmopstxyhbl", "асеіјкморѕтхуһьӏ", strict=True))

# A single word made of a sign or digit alone is not meant as a word, in a phrase as anywhere.
EXCEPTIONS = {"son-of-@-bitch", "son-of-*-bitch", "son-of-4-bitch"}

# A reader takes these for an amount or a name.
NUMBERS = {"50b", "71t", "t17", "h311"}

# What stands behind is read as one more letter, and makes another entry.
LONGER = {"puss!", "t1t!", "tit!"}

FRAMES = [
    "{}",
    '"{}"',
    "'{}'",
    "**{}**",
    "*{}*",
    "_{}_",
    "({})",
    "{}'s",
    "{}’s",
    "{}.",
    "{}!",
    "{}?",
    "{},",
    "{}:",
]
"""What stands around a word without being a part of it."""


def full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def disguises(entry: str) -> Iterator[str]:
    yield from (entry.upper(), entry.title(), full_width(entry))
    for place, letter in enumerate(entry):
        before, behind = entry[:place], entry[place + 1 :]
        for sign in LEET.get(letter.lower(), ""):
            # A star at an end of a word is emphasis.
            if sign != "*" or (before and behind):
                yield before + sign + behind
        if letter in CYRILLIC:
            yield before + CYRILLIC[letter] + behind
        # A letter with a zero-width character beside it is no single letter, so spells nothing.
        if before and "." not in entry:
            yield f"{before}\u200b{letter}{behind}"


def is_found(said: str, frame: str = "{}") -> bool:
    """Whether what is said is masked, and nothing around it."""
    return POLICY.scan(f"you {frame.format(said)} there").text == f"you {frame.format('#')} there"


def test_every_entry_is_found_in_every_frame() -> None:
    missed = {frame.format(entry) for entry in ENTRIES for frame in FRAMES if not is_found(entry, frame)}
    assert missed == LONGER


def test_every_entry_is_found_in_every_disguise() -> None:
    missed = {said for entry in ENTRIES for said in disguises(entry) if not is_found(said)}
    assert missed == EXCEPTIONS | NUMBERS


CLEAN = [
    "Scunthorpe, Penistone, Clitheroe and Lightwater are towns in England.",
    "Arsenal beat Essex, Sussex and Middlesex, said Dickens to Hancock and Babcock.",
    "A classic assassin assesses the embarrassment; the class passes, the compass is brass.",
    "pass the class", "pass the glass of water", "the grass is greener", "bass guitar", "mass and massive",
    "A cocktail with a peacock in the cockpit, and a cockatoo.", "cucumbers accumulate in circumstances",
    "analysis, analyst, analogue, canal, banal", "the therapist", "psychotherapist", "grape, scrape and drape",
    "a title for a titan, entitled by the constitution", "shiitake", "shitake mushrooms", "mishit", "Matsushita",
    "hello, shell", "Hello!", "shellac and shelter", "a sextant and a sexton", "Godot and his godfather",
    "goodness, the food is too good", "bookkeeper", "raccoon, tycoon, cocoon", "Kumar in a cummerbund",
    "buttons and butterflies", "arsenic is coarse, the horse is hoarse", "parse the sparse arguments",
    "accept, except, expect","the scum of scumble".replace("scum of ", ""), "peniaphobia", "a rapeseed field",
    "assert x == 455", "455", "4.5.5", "version 4-5-5 follows 5.0.8", "1.5.5", "2024-12-31", "12/05/1955", "$5.55",
    "+1 555 0100", "5$ and 50%", "at 3:45", "455 * 3 = 1365", "The job took 45s; retry in 45s! timeout=45s", "**45s**, 45.5s, $45k, 455ms", "a Galaxy A55",
    "5 0 8", "0x455", "1,234,567.89", "1e10", "#455",
    "https://example.org/class/analysis?x=1&pass=2", "user@example.com", "192.168.45.5",
    "def parse(args): return args.classes[0]", "for i in range(10): a[i] += 1", "x = a * b ** 2",
    "if (a || b) && !c { return 1 << 4; }", "SELECT a, b FROM t WHERE c = 'd';", "f(x) = a * x + b", "a | b | c",
    "c-l-a-s-s", "s-h-e-l-l", "g l a s s", "p.a.s.s", "A B C D E", "e.g. this, i.e. that", "U.S.A. and U.K.",
    "**bold**, *italic*, `code` and ~~gone~~", "- one\n- two\n  1. three", "# A heading\n\n> a quote", "| a | b |\n|---|---|",
    "Москва — столица России, и там красиво.", "Сок и хор, рот и нос: хорошая прогулка.", "А он и в лес, и к нам, и с ним.",
    "Я вас любил: любовь ещё, быть может", "Καλημέρα κόσμε, τι κάνεις σήμερα;", "Το νερό είναι κρύο και ο ουρανός γαλανός.",
    "今天天气很好，我们去公园散步。", "吾輩は猫である。名前はまだ無い。", "안녕하세요, 반갑습니다.", "สวัสดีครับ", "שלום עולם", "مرحبا بالعالم",
    "😀 😂 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️", "Les élèves étaient déjà là, à l’été dernier.", "C’était très bon ; où êtes-vous né ?",
    "Die Straße führt über die Brücke nach Köln.", "Größe, Maß und Fuß sind schön.", "El niño comió jamón en la mañana.",
    "Łódź, Kraków i Gdańsk", "Çok güzel bir gün", "smörgåsbord och kött", "coördinate the naïve façade",
    "“Quoted” — with ‘curly’ quotes…", "ＦＵＬＬ ＷＩＤＴＨ", "vitamin b 12", "x² + y² ≤ r²", "", " \n\t ", "***", "@@@ $$$ !!!",
]  # fmt: skip


@pytest.mark.parametrize("text", CLEAN)
def test_nothing_is_found_in_clean_text(text: str) -> None:
    result = POLICY.scan(text)
    assert result.text == text
    assert result.verdicts == []


def test_a_long_clean_text_of_all_kinds_stays_clean() -> None:
    text = "\n".join(CLEAN) * 3
    assert POLICY.scan(text).verdicts == []


LANGUAGES = typing.get_args(Language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_entry_of_a_language_is_found(language: str) -> None:
    policy = guardrails.compile([rule(profanity={"languages": [language]})])
    assert [entry for entry in words.profanity(language) if "#" not in masked(policy, f"- {entry} -")] == []


def test_a_rule_has_the_words_of_its_languages_only() -> None:
    policy = guardrails.compile([rule(profanity={"languages": ["de", "ru"], "allow": ["nackt"]})])
    assert masked(policy, "Arschloch, блядь, nackt, shit") == "#, #, nackt, shit"
