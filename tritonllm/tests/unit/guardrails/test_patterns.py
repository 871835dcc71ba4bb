"""Regular expressions on a text that is still arriving."""

from __future__ import annotations

import pathlib
import re

import pytest
from policies import masked, pattern, rule

from tritonllm import guardrails
from tritonllm.guardrails import prefixes


@pytest.mark.parametrize(
    ("regex", "text", "left"),
    [
        (r"\b\d{4}\b", "1234 12345 x1234 _1234 1234", "# 12345 x1234 _1234 #"),
        (r"^go", "go go\ngo", "# go\ngo"),
        (r"(?m)^go", "go go\ngo", "# go\n#"),
        (r"end$", "end end", "end #"),
        (r"(?m)end$", "end\nend x end", "#\nend x #"),
        (r"\Bgo", "ago go", "a# go"),
        (r"a+b", "aaab aaa", "# aaa"),
        (r"(ab|abc)d?", "abcd", "#"),
        (r"a|abc", "abc ab", "# #b"),
        (r"(?i)key", "KEY KeY", "# #"),
        (r"(?s)a.b", "a\nb", "#"),
        (r"a.b", "a\nb", "a\nb"),
        (r"\w+@\w+\.com", "to jo@x.com, jo@x.org", "to #, jo@x.org"),
        (r"é{2}", "éé\U0001f600éé", "#\U0001f600#"),
        (r"\p{Greek}+", "a αβγ b", "a # b"),
        (r"[[:digit:]]{3}-", "x123-", "x#"),
        (r"(?:[^a]b)x", "Abx abx", "# abx"),
        (r"(?i:[^a]b)x", "ABx CBx", "ABx #"),
        (r"(?i)[^a]bx", "Abx cBX", "Abx #"),
        (r"\bx\b|go", "x go", "# #"),
        (r"\bÜberfall\b", "Ein Überfall! Überfälle, xÜberfall Überfall", "Ein #! Überfälle, xÜberfall #"),
        (r"\bcafé\b", "café, a café here cafés écafé", "#, a # here cafés écafé"),
        (r"\bмама\b|\bпапа", "мама папаша мамаша", "# #ша мамаша"),
        (r"\bfoo\b|\bfab\b", "foo fabé fab éfoo", "# fabé # éfoo"),
        (r"(?:\bé|x)y\b", "éy xy aéy axyz axy", "# # aéy axyz a#"),
        (r"\b[\w.+-]+@[\w-]+\b", "to josé@mañana, .x@y; é.j@é", "to #, .#; #"),
        (r"\Bé", "é aé éé", "é a# é#"),
        (r"é\B", "é éa éé", "é #a #é"),
        (r"a\b", "a aé a\u0301 a.", "# aé a\u0301 #."),
        (r"\d{3}", "١٢٣ 123 ४५६", "# # #"),
        (r"a\sb", "a\u00a0b a\u3000b a\u2009b ab", "# # # ab"),
        (r"[^\W\d_]+1", "é1 _1 21", "# _1 21"),
        (r"\W[\s\S]\D", "é.ab", "é#"),
        (r"(?i)\bÀ la\b", "à la, À LA; àla", "#, #; àla"),
        (r"\bпароль\s*[:=]\s*\S+", "xпароль: a, пароль: é, ok", "xпароль: a, # ok"),
        (r"\b[A-Z]{2}\d{2}(?:\s?\w{4}){2,7}\b", "to DE89 3704\u00a00044 0532.", "to #."),
        (r"[[:alpha:]]+", "é1 हिंदी", "#1 #"),
        (r"[[:word:]]+[[:space:]][^[:space:]]", "é\u00a0é", "#"),
        (r"[[:upper:]][[:lower:]]+[[:punct:]]", "Äöü» É.", "# É."),
    ],
)
def test_a_pattern_sees_what_is_around_it_however_the_text_is_cut(regex: str, text: str, left: str) -> None:
    policy = pattern(regex)
    assert masked(policy, text) == left
    for place in range(len(text) + 1):
        stream = policy.stream()
        assert stream.feed(text[:place]) + stream.feed(text[place:]) + stream.finish() == left


@pytest.mark.parametrize("size", [1, 511, 600, 5000, 40_000])
def test_a_match_can_have_any_length(size: int) -> None:
    assert masked(pattern("a+"), "b" + "a" * size + "b") == "b#b"
    assert masked(pattern("<[^>]*>"), f"<{'x' * size}> <y>") == "# #"
    assert masked(pattern("<.*>"), f"<{'x' * size}<y>") == "#"


@pytest.mark.parametrize("size", [1200, 1700, 3200, 12_000])
def test_a_private_key_is_blocked_whatever_its_size(size: int) -> None:
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{'MIIEow/+' * (size // 8)}\n-----END RSA PRIVATE KEY-----\n"
    policy = guardrails.compile(
        [rule("Block", pattern={"regex": r"(?s)-----BEGIN [A-Z ]*KEY-----.+?-----END [A-Z ]*KEY-----"})]
    )
    assert policy.scan(f"Here: {key}").blocked
    assert masked(policy, f"Here: {key}") == "Here: "


def test_a_token_of_a_thousand_characters_is_masked() -> None:
    token = f"eyJ{'a' * 33}.eyJ{'b' * 1200}.{'c' * 43}"
    assert masked(pattern(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+"), f"Bearer {token}, please") == "Bearer #, please"


def test_a_long_match_in_progress_leaves_when_it_has_come_to_nothing() -> None:
    stream = pattern(r"<[^>\n]*>").stream()
    text = "<" + "x" * 3000
    assert "".join(stream.feed(char) for char in text) == ""
    assert stream.held == text
    rest = "\n" + "y" * 1000
    assert "".join(stream.feed(char) for char in rest) == text + rest


def test_a_match_that_is_behind_another_one_is_searched_in_what_is_left() -> None:
    assert masked(pattern(r"\p{L}{7}"), "abcdefg" * 200 + "abc") == "#" * 200 + "abc"


README = pathlib.Path(__file__).parents[4] / "README.md"


@pytest.mark.parametrize(
    "address",
    [
        "jo@example.org",
        "josé@example.es",
        "jörg.müller@münchen.example",
        "иван@пример.рф",
        "a_b+c-1@x-y.example",
    ],
)
def test_the_mail_rule_of_the_readme_finds_addresses_of_all_scripts(address: str) -> None:
    regex = re.search(r"name: mail, pattern: \{regex: '(.+?)'\}", README.read_text(encoding="utf-8"))
    assert regex is not None
    assert masked(pattern(regex[1]), f"to {address}, or call") == "to #, or call"
    stream = pattern(regex[1]).stream()
    assert stream.feed("a few words ") == "a few words "


def test_only_what_may_become_a_match_is_held() -> None:
    stream = pattern(r"\bsk-[a-z0-9]{8}\b").stream()
    assert stream.feed("the key is s") == "the key is "
    assert stream.feed("k-abcd") == ""
    assert stream.held == "sk-abcd"
    assert stream.feed(" or") == "sk-abcd or"


def test_a_pattern_of_unicode_classes_holds_only_what_may_become_a_match() -> None:
    stream = pattern(r"[\p{Greek}[:digit:]]+x").stream()
    assert stream.feed("a" * 600) == "a" * 600
    assert stream.feed("bα1") == "b"
    assert stream.feed("b") == "α1b"


@pytest.mark.parametrize(
    "regex",
    [r"key\s*=\s*\w+", r"key\s=[\s\w]\S+", r"key[[:space:]]+=[\s]\S+", r"\bkey\s*=[^\s]+"],
)
def test_a_pattern_with_spaces_of_all_scripts_holds_only_what_may_become_a_match(regex: str) -> None:
    stream = pattern(regex).stream()
    assert stream.feed("some words") == "some words"
    assert "".join(map(stream.feed, " and key x, ")) == " and key x, "


@pytest.mark.parametrize("regex", [r"\Qa\E+", "(?U)a+b", r"\141+"])
def test_what_the_parsers_read_differently_has_no_prefixes_and_is_held_to_the_end(regex: str) -> None:
    assert prefixes.derive(regex) is None
    stream = pattern(regex).stream()
    assert stream.feed("x" * 600) == ""
    assert stream.finish("ab") == "x" * 600 + ("#b" if "b" not in regex else "#")


@pytest.mark.parametrize(
    ("regex", "longest"),
    [("a", 1), ("[:=]x", 2), (r"\d{3}[^\w-]", 4), (r"\p{L}{2,5}x", 6), ("[[:alpha:]]|bcd", 3), ("(?i:a)b", 2),
     ("a{,3}", 5), (r"\x{200b}a", 2), ("[]a]{2}", 2), ("(a|b)*c", None), ("x{2,}y*?", None), (".*", None)],
)  # fmt: skip
def test_an_ordinary_pattern_has_prefixes_and_a_longest_match(regex: str, longest: int | None) -> None:
    regex = prefixes.in_all_scripts(regex)
    assert prefixes.derive(regex) is not None
    assert prefixes.longest(regex) == longest


def test_a_pattern_too_large_to_follow_holds_back_its_longest_match() -> None:
    stream = pattern("(?s)b.{100,400}x").stream()
    assert stream.feed("b" * 600) == "b" * 198
    assert stream.finish("x") == "b#"


@pytest.mark.parametrize(
    ("regex", "hint"),
    [
        (r"a\b.\b", "elsewhere, write the characters"),
        (r"\b[^a]", "elsewhere, write the characters"),
        (r"\b\S+", "elsewhere, write the characters"),
        (r"^\ba", "elsewhere, write the characters"),
        (r"[a\W]", r"write `\P{L}` or the characters"),
        (r"[[:^alpha:]]", r"write `\P{L}` or the characters"),
        (r"\b[^a-z]", "elsewhere, write the characters"),
    ],
)
def test_what_cannot_mean_letters_of_all_scripts_is_refused_with_the_form_to_use(
    regex: str, hint: str
) -> None:
    with pytest.raises(guardrails.PolicyError, match=r"^rule rule: pattern: ") as refused:
        pattern(regex)
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("regex", "warning"),
    [
        (r"(?:\w+\s+){1,50}secret", "an answer is held back until it is complete"),
        (r"\Qa\E+", "an answer is held back until it is complete"),
        (r"\w{1,500}x", "the last 501 characters of an answer are always held back"),
    ],
)
def test_a_pattern_that_delays_every_stream_gets_a_warning(regex: str, warning: str) -> None:
    (text,) = guardrails.warnings([rule(name="r", pattern={"regex": regex})])
    assert text.startswith("rule r: ")
    assert text.endswith(warning)


@pytest.mark.parametrize(
    "regex", [r"\bkey\s*=\s*\S+", r"(?s)-----BEGIN.+?-----END", r"(?<n>ab)+c", r"[\w.]+@[\w.]+"]
)
def test_a_pattern_that_delays_only_its_matches_gets_no_warning(regex: str) -> None:
    assert guardrails.warnings([rule(pattern={"regex": regex})]) == []
