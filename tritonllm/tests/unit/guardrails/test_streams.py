"""What leaves, what is held back, and what is reported."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from policies import banned, masked, pattern, profanity, rule

from tritonllm import api, guardrails


def policy(*rules: tuple[str, str]) -> guardrails.Policy:
    """Rules named by their numbers, each an action and a pattern."""
    return guardrails.compile(
        [
            rule(action, name=str(number), replacement=f"<{number}>", pattern={"regex": regex})
            for number, (action, regex) in enumerate(rules)
        ]
    )


def test_masks_that_overlap_are_one_under_the_rule_that_begins_first() -> None:
    overlapping = policy(("Mask", "cde"), ("Mask", "bcd"), ("Mask", "ef"))
    assert masked(overlapping, "abcdefg") == "a<1>g"


def test_masks_that_begin_together_are_one_under_the_rule_that_is_written_first() -> None:
    assert masked(policy(("Mask", "bc"), ("Mask", "bcd")), "abcde") == "a<0>e"
    assert masked(policy(("Mask", "bcd"), ("Mask", "bc")), "abcde") == "a<0>e"


def test_masks_that_touch_are_two() -> None:
    assert masked(policy(("Mask", "ab"), ("Mask", "cd")), "abcd") == "<0><1>"


def test_a_block_ends_the_text_before_its_first_character() -> None:
    result = policy(("Block", "stop")).scan("go on, stop here")
    assert (result.text, result.blocked) == ("go on, ", True)


def test_a_block_inside_a_mask_leaves_the_mask() -> None:
    result = policy(("Mask", "abcd"), ("Block", "cd")).scan("xabcdy")
    assert (result.text, result.blocked) == ("x<0>", True)


def test_a_block_that_begins_with_a_mask_leaves_neither() -> None:
    result = policy(("Mask", "abcd"), ("Block", "ab")).scan("xabcdy")
    assert (result.text, [verdict.rule for verdict in result.verdicts]) == ("x", ["0", "1"])


def test_what_comes_after_a_block_is_not_judged() -> None:
    result = policy(("Block", "stop"), ("Flag", "here")).scan("stop here")
    assert [verdict.rule for verdict in result.verdicts] == ["0"]


def test_a_flag_changes_nothing() -> None:
    result = policy(("Flag", "bc"), ("Mask", "cd")).scan("abcde")
    assert result.text == "ab<1>e"
    assert [(verdict.rule, verdict.action) for verdict in result.verdicts] == [("0", "Flag"), ("1", "Mask")]


def test_verdicts_come_in_the_order_of_the_text_then_of_the_rules() -> None:
    verdicts = policy(("Flag", "d"), ("Flag", "bcd"), ("Flag", "b")).scan("abcd d").verdicts
    assert [(verdict.rule, verdict.start) for verdict in verdicts] == [("1", 1), ("2", 1), ("0", 3), ("0", 5)]


def test_places_are_code_points_of_the_original() -> None:
    text = "😀𝐟𝐚𝐥𝐜𝐨𝐧 ßﬁ fal\u200bcon"
    verdicts = banned("falcon").scan(text).verdicts
    assert [text[verdict.start : verdict.end] for verdict in verdicts] == ["𝐟𝐚𝐥𝐜𝐨𝐧", "fal\u200bcon"]
    assert [(verdict.start, verdict.end) for verdict in verdicts] == [(1, 7), (11, 18)]


def test_nothing_leaves_a_blocked_stream_ever_again() -> None:
    stream = policy(("Block", "stop")).stream()
    assert stream.feed("go stop ") == "go "
    assert [stream.feed("more"), stream.feed(""), stream.finish(), stream.finish()] == [""] * 4
    assert stream.blocked
    assert stream.held == ""
    assert len(stream.verdicts) == 1


def test_what_may_become_a_match_is_held_and_the_rest_leaves() -> None:
    stream = banned("project falcon").stream()
    assert stream.feed("my proj") == "my "
    assert stream.held == "proj"
    assert stream.feed("ect ") == ""
    assert stream.held == "project "
    assert stream.feed("x") == "project x"
    assert stream.held == ""


def test_a_word_is_held_until_its_end_is_known() -> None:
    stream = banned("ass").stream()
    assert [stream.feed("ass"), stream.held] == ["", "ass"]
    assert stream.feed("e") == "asse"
    assert [stream.feed(" ass"), stream.held] == [" ", "ass"]
    assert stream.feed("\u0301") == ""
    assert stream.finish() == "#"


def test_a_mask_leaves_as_soon_as_its_beginning_is_decided() -> None:
    stream = banned("aa", match="Substring").stream()
    left = [stream.feed("a") for _ in range(500)]
    assert "".join(left) == "#"
    assert len(stream.held) < 40
    assert stream.finish() == ""


@pytest.mark.parametrize("hidden", ["", "\u200b" * 70])
@pytest.mark.parametrize("size", [70, 300, 337, 400, 1024, 3000])
def test_a_long_word_is_one_word_however_it_is_cut(hidden: str, size: int) -> None:
    text = "x" * size + hidden + "ass"
    assert masked(banned("ass"), text) == text


def test_a_long_text_can_be_judged_in_steps() -> None:
    steps = banned("falcon").scan_steps("x-" * 3000 + " falcon " + "y-" * 3000)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result = end.value
            break
        count += 1
    assert count >= 3
    assert (result.text, result.blocked) == ("x-" * 3000 + " # " + "y-" * 3000, False)


def test_steps_end_with_a_block() -> None:
    steps = policy(("Block", "stop")).scan_steps("go stop " + "x" * 100_000)
    next(steps)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert (end.value.value.text, end.value.value.blocked) == ("go ", True)


def test_an_empty_policy_lets_everything_through_at_once() -> None:
    stream = guardrails.compile([]).stream()
    assert [stream.feed("fuck"), stream.held, stream.finish()] == ["fuck", "", ""]


def test_a_whole_text_over_many_blocks_is_judged_like_its_pieces() -> None:
    text = "x" * 16_380 + " falcon " + "y" * 16_372 + " falcon, k1y k22" + "z" * 20_000
    both = guardrails.compile(
        [rule(banned={"phrases": ["falcon"]}), rule(name="key", pattern={"regex": "k[0-9]{1,2}"})]
    )
    assert both.scan(text).text == text.replace("falcon", "#").replace("k1", "#").replace("k22", "#")
    assert [both.scan(text).verdicts[number].start for number in (0, 1)] == [16_381, 16_381 + 16_380]


@pytest.mark.parametrize("use", [guardrails.check, guardrails.compile])
@pytest.mark.parametrize("phrase", [" ", "*", "\u200b", "--", "\u0301 '"])
def test_a_phrase_of_which_nothing_is_left_is_refused_by_name(
    phrase: str, use: Callable[[list[api.Rule]], object]
) -> None:
    with pytest.raises(guardrails.PolicyError, match=r"rule language: .* phrase .* folded"):
        use([rule(name="language", banned={"phrases": ["fine", phrase]})])


def test_an_allowed_word_of_the_list_is_let_through_and_only_that() -> None:
    assert masked(profanity("God", "hand-job"), "god damn, a hand job") == "god #, a hand job"
    assert masked(profanity(), "god damn") == "# #"


def test_a_summary_counts_by_rule_and_tells_nothing_of_the_text() -> None:
    verdicts = policy(("Mask", "secret"), ("Flag", "key"), ("Mask", "none")).scan("key secret key").verdicts
    assert guardrails.summarize(verdicts, "output") == [
        {"rule": "0", "action": "Mask", "direction": "output", "count": 1},
        {"rule": "1", "action": "Flag", "direction": "output", "count": 2},
    ]
    assert guardrails.summarize([], "input") == []


def test_a_policy_is_shared_by_streams_that_know_nothing_of_each_other() -> None:
    shared = pattern("ab")
    one, other = shared.stream(), shared.stream()
    assert [one.feed("a"), other.feed("b"), one.feed("c"), other.feed("a"), other.feed("b.")] == [
        "",
        "b",
        "ac",
        "",
        "#.",
    ]


def test_a_phrase_that_begins_inside_the_beginning_of_another_one_does_not_release_it() -> None:
    stream = banned("falcon", "a b c", match="Substring").stream()
    assert stream.feed("the fa") == "the "
    assert stream.feed("lcon") + stream.finish() == "#"
