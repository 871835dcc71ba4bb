"""Regular expressions on a text that is still arriving."""

from __future__ import annotations

import pytest
from policies import masked, pattern

from tritonllm.guardrails import patterns, prefixes


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
        (r"\bx?\b|go", "x go", "# #"),
    ],
)
def test_a_pattern_sees_what_is_around_it_however_the_text_is_cut(regex: str, text: str, left: str) -> None:
    policy = pattern(regex)
    assert masked(policy, text) == left
    for place in range(len(text) + 1):
        stream = policy.stream()
        assert stream.feed(text[:place]) + stream.feed(text[place:]) + stream.finish() == left


def test_a_match_is_at_most_its_longest_and_the_next_one_goes_on_from_there() -> None:
    policy = pattern("a+")
    ends = [(verdict.start, verdict.end) for verdict in policy.scan("b" + "a" * 1300).verdicts]
    assert ends == [(1, 513), (513, 1025), (1025, 1301)]
    assert masked(policy, "b" + "a" * 1300) == "b###"


def test_what_is_longer_than_the_longest_match_is_found_only_where_a_shorter_one_is() -> None:
    assert masked(pattern("<[^>]*>"), f"<{'x' * 600}> <y>") == f"<{'x' * 600}> #"
    assert masked(pattern("<.*>"), f"<{'x' * 600}<y>") == f"<{'x' * 91}".replace("x" * 91, "x" * 600) + "#"


def test_a_match_as_long_as_may_be_sees_what_is_behind_it() -> None:
    policy = pattern(r"\b[a-z]+\b")
    assert masked(policy, "a" * 512 + " b") == "# #"
    assert masked(policy, "a" * 513 + " b") == "a" * 513 + " #"


def test_a_match_that_goes_beyond_what_is_decided_is_not_searched_again() -> None:
    assert masked(pattern(r"\p{L}{7}"), "abcdefg" * 200 + "abc") == "#" * 200 + "abc"


def test_only_what_may_become_a_match_is_held() -> None:
    stream = pattern(r"\bsk-[a-z0-9]{8}\b").stream()
    assert stream.feed("the key is s") == "the key is "
    assert stream.feed("k-abcd") == ""
    assert stream.held == "sk-abcd"
    assert stream.feed(" or") == "sk-abcd or"


def test_a_pattern_that_python_reads_otherwise_holds_back_a_window() -> None:
    stream = pattern(r"\p{Greek}x").stream()
    assert stream.feed("a" * 600) == "a" * 88
    assert stream.feed("a") == "a"
    assert len(stream.held) == patterns.LONGEST
    assert stream.finish() == "a" * patterns.LONGEST


@pytest.mark.parametrize(
    "regex",
    [
        r"\p{L}",
        "[[:digit:]]",
        "[a[:alpha:]]",
        "a{,3}",
        r"\Qa\E",
        "(?U)a+",
        r"\123",
        "(?i:a)b",
        "(?i)(?-i:a)b",
    ],
)
def test_what_the_parsers_may_read_differently_has_no_prefixes(regex: str) -> None:
    assert prefixes.derive(regex) is None


@pytest.mark.parametrize(
    "regex", ["a", "[:=]x", "(?i)key", "(?P<name>a)b?", r"\d{3}[^\w-]", "(a|b)*c", "x{2,}y*?"]
)
def test_an_ordinary_pattern_has_prefixes(regex: str) -> None:
    assert prefixes.derive(regex) is not None


def test_a_pattern_too_large_to_follow_holds_back_a_window() -> None:
    stream = pattern("(?s)b.{100,400}x").stream()
    assert stream.feed("a" * 600) == "a" * 88
