"""An answer's text is its tokens' text up to the first stop sequence, however it is cut into deltas."""

from __future__ import annotations

from typing import Any

import pytest

from tritonllm.runtime import answer_text


def decode(tokens: list[int]) -> str:
    """Each token is a byte of UTF-8."""
    return bytes(tokens).decode(errors="replace")


def answer(text: str | bytes, prompt: bytes = b"", **options: Any) -> tuple[list[str], bool]:
    """The deltas, and whether a stop sequence ended them."""
    found = answer_text.AnswerText(decode, list(prompt), **options)
    deltas = []
    for token in text.encode() if isinstance(text, str) else text:
        stopped = found.add(token)
        deltas.append(found.take(ended=stopped))
        if stopped:
            return deltas, True
    deltas.append(found.take(ended=True))
    return deltas, False


def test_deltas_make_up_the_text() -> None:
    assert answer("abc") == (["a", "b", "c", ""], False)


def test_a_character_comes_when_it_is_complete() -> None:
    assert answer("aé€") == (["a", "", "é", "", "", "€", ""], False)


def test_the_beginning_of_a_character_is_no_text() -> None:
    assert answer("a€".encode()[:-1]) == (["a", "", "", ""], False)


def test_the_prompt_is_no_part_of_the_answer() -> None:
    assert answer("b", prompt=b"a prompt") == (["b", ""], False)


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (["cd"], "ab"),
        (["d"], "abc"),
        (["cde", "d"], "abc"),
        (["bcd", "cd"], "a"),
        (["x", "f"], "abcde"),
        (["a"], ""),
    ],
)
def test_the_stop_sequence_that_is_complete_first_ends_the_answer_before_it(
    stop: list[str], expected: str
) -> None:
    deltas, stopped = answer("abcdefg", stop=stop)
    assert "".join(deltas) == expected
    assert stopped


def test_what_could_begin_a_stop_sequence_is_held_back() -> None:
    assert answer("abxabc", stop=["abc"]) == (["", "", "a", "b", "x", ""], True)


def test_what_was_held_back_comes_at_the_end() -> None:
    assert answer("ab", stop=["bcd"]) == (["", "", "ab"], False)


def test_a_stop_sequence_can_be_part_of_the_answer() -> None:
    assert answer("abcd", stop=["bc"], include_stop=True) == (["a", "b", "c"], True)


def test_a_stop_sequence_within_the_first_tokens_does_not_count() -> None:
    deltas, stopped = answer("ababab", stop=["b"], min_tokens=3)
    assert ("".join(deltas), stopped) == ("aba", True)
