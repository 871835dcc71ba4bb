"""What becomes of a prompt before vLLM sees it, with a tokenizer of one token a word."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

import pytest

from tritonllm import errors
from tritonllm.runtime import prompts

CONTEXT = 1000
TURN = {"role": "user", "content": "hello there"}


class Words:
    """A tokenizer in the form of vLLM's: a token is a word, 1 stands in front of what gets special tokens."""

    max_chars_per_token = 10
    chat_template: str | None = "a template"
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def __init__(self) -> None:
        self.threads: list[int] = []

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        self.threads.append(threading.get_ident())
        return [1] * add_special_tokens + [len(word) for word in text.split()]

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        assert options == {"tokenize": False, "add_generation_prompt": True}
        if messages[0]["role"] == "system":
            raise TypeError("can only concatenate str")
        return " ".join(turn["content"] for turn in messages) + " assistant"


class Mistral:
    """Mistral's tokenizer: no template to show, tokens straight from a conversation."""

    max_chars_per_token = 10

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        return [3, len(messages), 4]


def tokens(
    tokenizer: Any, text: str | None = None, messages: list[dict[str, str]] | None = None
) -> list[int]:
    prompt_tokenizer = prompts.PromptTokenizer(tokenizer, CONTEXT)
    try:
        return asyncio.run(prompt_tokenizer.tokens(text, messages))
    finally:
        prompt_tokenizer.close()


def refusal(tokenizer: Any, text: str | None = None, messages: Any = None) -> errors.RequestError:
    with pytest.raises(errors.RequestError) as caught:
        tokens(tokenizer, text, messages)
    assert caught.value.code == "invalid_argument"
    return caught.value


def test_a_text_gets_the_models_special_tokens() -> None:
    assert tokens(Words(), "two words") == [1, 3, 5]


def test_a_conversation_gets_only_what_its_template_writes() -> None:
    assert tokens(Words(), messages=[TURN]) == [5, 5, 9]


def test_mistrals_tokenizer_makes_tokens_of_a_conversation_itself() -> None:
    assert tokens(Mistral(), messages=[TURN, TURN]) == [3, 2, 4]


def test_a_short_prompt_is_tokenized_at_once_and_a_long_one_in_a_thread() -> None:
    tokenizer = Words()
    tokens(tokenizer, "short")
    tokens(tokenizer, "longwords " * 900)
    short, long = tokenizer.threads
    assert short == threading.get_ident()
    assert long != short


def test_the_longest_prompt_leaves_room_for_one_token() -> None:
    assert len(tokens(Words(), "a " * (CONTEXT - 2))) == CONTEXT - 1
    error = refusal(Words(), "a " * (CONTEXT - 1))
    assert error.field == "text_input"
    assert error.message == "1000 tokens, but the model's context is 1000; shorten the prompt"


def test_what_can_not_fit_whatever_it_says_is_not_tokenized() -> None:
    tokenizer = Words()
    error = refusal(tokenizer, messages=[{"role": "user", "content": "x" * (CONTEXT * 10 + 1)}])
    assert error.field == "messages"
    assert error.message.startswith("10001 characters, but")
    assert tokenizer.threads == []


def test_any_error_of_a_template_is_told_as_being_about_the_messages() -> None:
    error = refusal(Words(), messages=[{"role": "system", "content": "be kind"}])
    assert error.field == "messages"
    assert error.message == "this model's chat template refuses them: can only concatenate str"


def test_a_model_without_a_template_says_what_to_send_instead() -> None:
    tokenizer = Words()
    tokenizer.chat_template = None
    error = refusal(tokenizer, messages=[TURN])
    assert error.field == "messages"
    assert "send the whole prompt as `text_input`" in error.message


def test_a_prompt_of_no_tokens_is_refused() -> None:
    tokenizer = Words()
    tokenizer.encode = lambda text, add_special_tokens=True: []
    assert refusal(tokenizer, " ").field == "text_input"
