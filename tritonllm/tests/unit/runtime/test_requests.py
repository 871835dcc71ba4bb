"""What a caller may send, and what each mistake gets."""

from __future__ import annotations

import json

import pytest

from tritonllm import errors
from tritonllm.runtime import requests


def refused(
    values: dict[str, str | bool], parameters: dict[str, object] | None = None
) -> errors.RequestError:
    with pytest.raises(errors.RequestError) as caught:
        requests.parse(values, parameters or {})
    assert caught.value.code == "invalid_argument"
    return caught.value


def messages(*turns: object) -> dict[str, str | bool]:
    return {"messages": json.dumps(turns)}


def test_a_prompt_alone_is_a_request() -> None:
    request = requests.parse({"text_input": "Hi"}, {})
    assert (request.text, request.messages, request.stream) == ("Hi", None, False)


def test_parameters_of_the_request_are_sampling_parameters() -> None:
    request = requests.parse({"text_input": "Hi", "stream": True}, {"max_tokens": 5, "temperature": 0.5})
    assert request.sampling.given() == {"max_tokens": 5, "temperature": 0.5}
    assert request.stream


def test_numbers_may_be_texts_as_the_sample_client_of_tritons_vllm_backend_sends_them() -> None:
    given = {"temperature": "0.1", "top_p": "0.95", "max_tokens": "100", "seed": "-1"}
    parsed = requests.parse_sampling(given)
    assert parsed.given() == {"temperature": 0.1, "top_p": 0.95, "max_tokens": 100, "seed": -1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", "1.5"),
        ("max_tokens", "ten"),
        ("max_tokens", "1_0"),
        ("temperature", "1e999"),
        ("temperature", "nan"),
    ],
)
def test_a_text_that_is_no_such_number_is_refused(name: str, value: str) -> None:
    with pytest.raises(errors.RequestError, match=name):
        requests.parse_sampling({name: value})


def test_the_sampling_tensor_goes_before_the_parameters() -> None:
    request = requests.parse(
        {"text_input": "Hi", "sampling_parameters": '{"max_tokens": 7}'}, {"max_tokens": 5}
    )
    assert request.sampling.max_tokens == 7


def test_a_conversation_may_hold_its_texts_in_parts() -> None:
    parts = [{"type": "text", "text": "Good "}, {"type": "text", "text": "day"}]
    request = requests.parse(messages({"role": "user", "content": parts}), {})
    assert request.messages == [{"role": "user", "content": "Good day"}]


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "text_input", "is missing"),
        ({"text_input": ""}, "text_input", "is empty"),
        ({"text_input": "a", "messages": "[]"}, "messages", "cannot be combined with"),
        ({"messages": "[]"}, "messages", "JSON list of messages"),
        ({"messages": "{}"}, "messages", "JSON list of messages"),
        ({"messages": "[{"}, "messages", "is not JSON"),
        ({"messages": "[" * 100_000}, "messages", "is not JSON"),
        (messages("Hi"), "messages[0]", "must be an object"),
        (messages({"role": "king", "content": "Hi"}), "messages[0].role", "must be one of"),
        (messages({"role": "user"}), "messages[0].content", "must be a string"),
        (
            messages({"role": "user", "content": "a", "tool_calls": []}),
            "messages[0].tool_calls",
            "not supported",
        ),
        (messages({"role": "user", "content": [{"type": "image"}]}), "messages[0].content[0]", "only text"),
        (messages({"role": "user", "content": "\ud800"}), "messages[0].content", "surrogate"),
        ({"text_input": "a", "sampling_parameters": "no"}, "sampling_parameters", "is not JSON"),
        ({"text_input": "a", "sampling_parameters": "[1]"}, "sampling_parameters", "must be a JSON object"),
        (
            {"text_input": "a", "sampling_parameters": '{"n": 99}'},
            "sampling_parameters.n",
            "at most 16, got 99",
        ),
        ({"text_input": "a", "sampling_parameters": '{"n": "two"}'}, "sampling_parameters.n", "integer"),
        ({"text_input": "a", "sampling_parameters": '{"top_p": NaN}'}, "sampling_parameters.top_p", "finite"),
        (
            {"text_input": "a", "sampling_parameters": '{"max_token": 9}'},
            "sampling_parameters.max_token",
            "did you mean `max_tokens`?",
        ),
        (
            {"text_input": "a", "sampling_parameters": '{"prompt_logprobs": 1}'},
            "sampling_parameters.prompt_logprobs",
            "unknown field",
        ),
    ],
)
def test_a_mistake_names_its_field(values: dict[str, str | bool], field: str, words: str) -> None:
    error = refused(values)
    assert error.field == field
    assert words in error.message


def test_every_mistake_in_the_sampling_parameters_is_named() -> None:
    error = refused({"text_input": "a"}, {"n": 0, "temprature": 1})
    assert "did you mean `temperature`?" in str(error)
    assert "sampling_parameters.n" in str(error)


def test_the_text_of_an_error_can_be_read_back() -> None:
    error = errors.RequestError("queue_full", "", "512 requests are waiting")
    again = errors.parse(f"in ensemble: {error}")
    assert (again.code, again.field, again.message) == ("queue_full", "", "512 requests are waiting")
    error = errors.parse(str(errors.RequestError("invalid_argument", "messages[0].role", "must be: one")))
    assert (error.code, error.field, error.message) == (
        "invalid_argument",
        "messages[0].role",
        "must be: one",
    )


def test_an_error_of_another_form_is_the_engines() -> None:
    assert errors.parse("CUDA out of memory").code == "engine_failure"


def test_what_is_longer_than_any_context_is_refused_before_it_is_read() -> None:
    for name in ("text_input", "messages"):
        error = refused({name: "x" * (requests.LONGEST_CHARACTERS + 1)})
        assert (error.field, error.message) == (name, "is longer than 8388608 characters; shorten it")


def test_only_the_first_of_many_mistakes_are_explained() -> None:
    error = refused({"text_input": "Hi"}, {f"key{n}": 1 for n in range(1000)})
    assert error.message.endswith("; and 995 more")


def test_an_error_can_be_sent_whatever_it_quotes() -> None:
    turn = {"role": "user", "content": "Hi", "\ud800": "x"}
    assert "messages[0].\\ud800: is not supported" in str(refused(messages(turn)))
    assert len(str(refused({"text_input": "Hi"}, {"k" * 100_000: 1}))) < 2100
