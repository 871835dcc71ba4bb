"""The promise of the guardrails, for every text, every policy and every way of cutting."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonllm import api, guardrails
from tritonllm.guardrails import matcher, phrases, trie
from tritonllm.guardrails import stream as streams

PHRASES = [
    "ass",
    "project falcon",
    "falcon",
    "as",
    "god",
    "plan b",
    "größe",
    "хрен",
    "a b c",
    "area 51",
    ".env",
    "4chan",
    "法轮",
    "go",
    "shh",
    "51 area",
    "go falcon",
    "$$$",
    "😀 go",
    "ass hat b",
    "か",
    "หี",
    "сука",
    "σκατα",
    "كلمة",
    "바보",
    "acme cloud",
    "go's",
]
REGEXES = [
    r"\b\d{4}\b", r"[a-z]+@[a-z]+\.com", "a+b", "(ab|abc)d?", "x.*y", r"^go", r"end$", "(?i)key-[0-9a-f]{3,6}",
    r"\p{Greek}+", r"\bé\w*\b", r"\w+@", r"\Bs\b|\ba", r"\d+\s", "[[:digit:]]{3}-", "é+", "(?:a|b){2,3}c?", r"(?m)^> .", "z{2,}",
    r"\ba\s*[:=]\s*\S+", r"[[:alpha:]]+[[:space:]]é",
]  # fmt: skip
PIECES = [
    "a", "s", "s", "b", "g", "o", "d", "f", "c", "A", "S", "O", " ", " ", "  ", "\n", "-", "_", "*", "**", ".", "'", '"',
    "@", "$", "5", "4", "1", "0", "!", "|", "u", "v", "l", "i", "\u200b", "\u200d", "\u0301", "\u00ad", "а", "о", "ѕ", "х",
    "ß", "ß", "ﬁ", "ö", "ｆ", "😀", "法", "轮", "x", "y", "k", "e", "-ab", "@a.com", "key-a", "12", "\u115f", "\ufe0f", "(", "+",
    "proj", "ect", " fal", "con", "falcon", "project", "chan", "env", "area", "51", "го", "хрен", "plan ", "shh", "c", "h",
    "51", "*51", "90", "．", "－", "…", "é", "ᴏ", "ӏ", "\x7f", "\t", "hat ", "f u", "s.s", "ss", "sss", "ooo", "aaa", "㎏",
    "+49 30 901820", " 2024", "(650) 253-", "0000", "36 574", " 261 809", "arsch", "loch", "нет",
    "4111 1111", " 1111 1111", "4111", "078-05", "-1120", "::1", "127.0.0.", "GB82 WEST 1234 5698 7654 32", "DE89", "AKIA",
    "IOSFODNN7EXAMPLE", "eyJhbGciOiJub25lIn0", ".e30.", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "sk-",
    "**", "~~", "`", "_", "\\_", "[", "](", "](http://x)", ")", "<b>", "</b>", "<br>", "<", ">", "&nbsp;", "&#97;", "&", ";",
    "&#x73", "|", "\n> ", "[1]", "[^2]", "<sup>1</sup>", "(TM)", "\U000e0061", "\U000e0073", "\U000e007f", "\U0001f3f4",
    "\U0001f1e6", "\U0001f1f8", "\U0001f1ec\U0001f1f4", "ᵗᵐ", "\u3164", "\u2800", "\u0640", "كل", "مة", "cy", "ка", "σκa",
    "\u20e3", "1\ufe0f\u20e3", "¢", "€", "œ", "ⓡ", "ⓢ", "( R )", "(®", "【1", "】", "<sup a>", "\\\n", "•", "«", "/", ",", "\U000e0171", "\U000e0163",
    "ा", "ำ", "h17", "+45s", "3", "6", "바", "보", "acme", "cloud", "🅰", "ꜱ", "ɢ", "ł", "đ", "🔥", "†", "<!--", "-->",
    "™", "®", "²", "¹", "₅", "ʼ", "\u0e35", "\u3099", "か", "が", "ห", "ही",
]  # fmt: skip

texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])), max_size=20).map(
        "".join
    ),
)


def rule(number: int, action: str, kind: dict[str, Any]) -> api.Rule:
    return api.Rule.model_validate(
        {"name": f"r{number}", "action": action, "replacement": f"<{number}>"} | kind
    )


kinds = st.one_of(
    st.builds(
        lambda chosen, match, accents: {"banned": {"phrases": chosen, "match": match, "accents": accents}},
        st.lists(st.sampled_from(PHRASES), min_size=1, max_size=4, unique=True),
        st.sampled_from(["Word", "Substring"]),
        st.sampled_from(["Ignore", "Ignore", "Match"]),
    ),
    st.sampled_from(REGEXES).map(lambda regex: {"pattern": {"regex": regex}}),
    st.sampled_from(
        [
            {"pii": {"types": ["email", "card", "iban", "ssn", "ip"]}},
            {"pii": {"types": ["phone", "nationalId"], "countries": ["DE", "US"]}},
            {"secrets": {}},
            {"profanity": {"languages": ["de", "ru", "th"]}},
        ]
    ),
)
actions = st.sampled_from(["Mask", "Mask", "Flag", "Block"])
policies = st.lists(st.tuples(actions, kinds), min_size=1, max_size=4).map(
    lambda chosen: guardrails.compile([rule(number, *each) for number, each in enumerate(chosen)])
)


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(place, len(text)) for place in cuts} | {0, len(text)})
    return [text[first:second] for first, second in itertools.pairwise(places)]


def in_pieces(policy: guardrails.Policy, pieces: list[str]) -> tuple[guardrails.Result, list[str]]:
    stream = policy.stream()
    left = [stream.feed(piece) for piece in pieces]
    left.append(stream.finish())
    return guardrails.Result("".join(left), stream.blocked, stream.verdicts), left


@settings(max_examples=1500, deadline=None)
@given(policies, texts, st.lists(st.integers(0, 60), max_size=12))
def test_however_a_text_is_cut_the_same_leaves(policy: guardrails.Policy, text: str, cuts: list[int]) -> None:
    whole = policy.scan(text)
    assert in_pieces(policy, cut(text, cuts))[0] == whole
    assert in_pieces(policy, list(text))[0] == whole


@settings(max_examples=500, deadline=None)
@given(policies, texts)
def test_what_has_left_at_any_time_begins_what_leaves_in_the_end(
    policy: guardrails.Policy, text: str
) -> None:
    whole = policy.scan(text)
    stream = policy.stream()
    left = ""
    for char in text:
        left += stream.feed(char)
        assert whole.text.startswith(left)
        assert stream.verdicts == whole.verdicts[: len(stream.verdicts)]


@settings(max_examples=1000, deadline=None)
@given(policies, texts)
def test_the_text_that_leaves_is_the_original_without_what_was_found(
    policy: guardrails.Policy, text: str
) -> None:
    result = policy.scan(text)
    hidden = [verdict for verdict in result.verdicts if verdict.action == "Mask"]
    end = next((verdict.start for verdict in result.verdicts if verdict.action == "Block"), len(text))
    kept = "".join(
        char
        for place, char in enumerate(text[:end])
        if not any(each.start <= place < each.end for each in hidden)
    )
    assert re.sub(r"<\d>", "", result.text) == re.sub(r"<\d>", "", kept)
    assert result.blocked == any(verdict.action == "Block" for verdict in result.verdicts)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.sampled_from(PHRASES), min_size=1, max_size=5, unique=True),
    st.booleans(),
    texts,
)
def test_the_finder_passes_over_no_place_where_a_phrase_begins(
    chosen: list[str], words: bool, text: str
) -> None:
    quick = phrases.Phrases([phrases.Wanted(phrase, 0) for phrase in chosen], words=words)
    found, _ = quick.advance(text, 0, last=True)
    root = trie.build((trie.normalize(phrase), 0) for phrase in chosen)
    everywhere = {
        start: matcher.walk(root, text, start, words=words, last=True) for start in range(len(text))
    }
    assert {span.start: {0: span.end} for span in found} == {
        start: ends for start, ends in everywhere.items() if ends
    }


@settings(max_examples=800, deadline=None)
@given(
    st.lists(
        st.sampled_from(["falcon", "project falcon", "as", "plan b", "a b"]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    st.lists(
        st.sampled_from(["falcon", "project", "as", "plan", "b", "a", "ab", "Falcon", "x"]), max_size=12
    ),
)
def test_plain_phrases_are_found_just_where_a_naive_search_finds_them(
    chosen: list[str], said: list[str]
) -> None:
    text = " ".join(said)
    policy = guardrails.compile([rule(0, "Flag", {"banned": {"phrases": chosen}})])
    expected = set()
    for start in range(len(text)):
        ends = [
            match.end()
            for phrase in chosen
            if (match := re.compile(rf"(?<![a-z]){phrase}(?![a-z])", re.IGNORECASE).match(text, start))
        ]
        if ends:
            expected.add((start, max(ends)))
    spelled = {(each.start, each.end) for each in policy.scan(text).verdicts}
    assert expected <= spelled
    assert all(len(text[start:end].replace(" ", "")) <= 3 for start, end in spelled - expected)


@pytest.mark.parametrize("regex", REGEXES)
@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="ab@.comgxyzend-key0123 4>éα\n", max_size=40))
def test_a_pattern_finds_what_re2_finds(regex: str, text: str) -> None:
    import re2

    if re.search(r"\\[wdsbB]", regex) or not text.isascii():
        # They are those of all scripts, and RE2's only for ASCII.
        text = "".join(char for char in text if char.isascii())
    options = re2.Options()
    options.longest_match = True
    expected = [match.span() for match in re2.compile(regex, options).finditer(text) if match.group()]
    policy = guardrails.compile([rule(0, "Flag", {"pattern": {"regex": regex}})])
    assert [(each.start, each.end) for each in policy.scan(text).verdicts] == expected


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["a", "I ", "x ", "the ", "", "**", "2 ", "q."]),
    st.sampled_from(["shh", "god", "a$s", "хрен", "abc", "xgodx", "gоd", "4s5"]),
    st.one_of(
        st.sampled_from([" ", ".", "-", "_", "*", "·"]).map(lambda between: [between] * 9),
        st.lists(st.sampled_from([" ", ".", "-", "*", "．", "\u200b", ""]), min_size=9, max_size=9),
    ),
    st.sampled_from(["", " ", " x", " to", "!", "*", " b c", "d"]),
    st.integers(0, 20),
)
def test_a_spelled_word_is_judged_alike_however_it_is_cut(
    before: str, word: str, between: list[str], after: str, place: int
) -> None:
    policy = guardrails.compile(
        [rule(0, "Mask", {"banned": {"phrases": ["shh", "god", "ass", "хрен", "a b c"]}})]
    )
    text = before + "".join(letter + gap for letter, gap in zip(word, between, strict=False)) + after
    whole = policy.scan(text)
    assert in_pieces(policy, cut(text, [place]))[0] == whole
    assert in_pieces(policy, list(text))[0] == whole


# Few characters, so that every text of some length can be tried: what begins phrases, ends words, and disguises.
ALPHABETS = [
    ("as .", 6),
    ("sgo*", 5),
    ("as$ ", 5),
    ("a s1", 5),
    ("45sa", 5),
    ("4s$!", 5),
    ("as\u0e35 ", 5),
    ("as™² ", 4),
    ("f-u", 6),
    ("gо o\u200b", 4),
    ("planb ", 4),
    ("as<>b", 5),
    ("a[]s(", 5),
    ("as&;#", 5),
    ("as_*\\", 5),
    ("as\U000e0061\U0001f3f4", 5),
    ("as\U0001f1e6ᵗ", 5),
    ("сyкa", 5),
    ("ab@.", 5),
]
EXHAUSTED = [
    guardrails.compile([rule(0, "Mask", {"banned": {"phrases": phrases, "match": match}})])
    for phrases in (["ass", "as", "go so", "god", "a s", "fu", "plan b"], ["aas", "sgo", "oog", "u-f", "$$$", "сука"])
    for match in ("Word", "Substring")
] + [
    guardrails.compile([rule(0, "Block", {"pattern": {"regex": r"\bas+\b|a@|p+l"}}), rule(1, "Mask", {"profanity": {}})])
]  # fmt: skip


@pytest.mark.parametrize(("alphabet", "size"), ALPHABETS)
@pytest.mark.parametrize("policy", EXHAUSTED)
def test_every_short_text_is_judged_alike_whole_and_in_pieces(
    policy: guardrails.Policy, alphabet: str, size: int
) -> None:
    for chars in itertools.product(alphabet, repeat=size):
        text = "".join(chars)
        whole = policy.scan(text)
        assert in_pieces(policy, list(text))[0] == whole
        assert in_pieces(policy, [text[:2], text[2:]])[0] == whole


@settings(max_examples=300, deadline=None)
@given(policies, texts, st.integers(1, 9))
def test_a_text_in_blocks_is_judged_as_one(policy: guardrails.Policy, text: str, size: int) -> None:
    whole = policy.scan(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK", size)
        patch.setattr(streams, "_LONG_MATCH", size)
        patch.setattr(streams, "_TRIM", 0)
        assert policy.scan(text) == whole
        assert in_pieces(policy, [text])[0] == whole
        assert in_pieces(policy, list(text))[0] == whole
