"""How an answer grows, and what of it leaves when."""

from __future__ import annotations

import json

from tritonllm.render import canonical
from tritonllm.runtime import answer, backend, requests, screening


def policy(action: str) -> screening.EndpointPolicy:
    rule = {"name": "bird", "banned": {"phrases": ["falcon"]}, "action": action}
    return screening.EndpointPolicy.load(canonical.pack({"output": [rule]}))


def asked(**flags: bool) -> requests.Request:
    return requests.parse({"text_input": "Hi", **flags}, {})


def update(*texts: str, ends: str | None = None) -> backend.Update:
    return backend.Update(list(texts), [ends] * len(texts), 3, [1] * len(texts))


def test_a_word_that_arrives_in_pieces_is_masked() -> None:
    growing = answer.Answer(1, policy("Mask"))
    pieces = []
    for text in ("a fal", "co", "n is", " here"):
        growing.update(update(text))
        pieces += growing.outputs(asked(stream=True), last=False)["text_output"]
    growing.end("stop")
    pieces += growing.outputs(asked(stream=True), last=True)["text_output"]
    assert "".join(pieces) == "a [REDACTED] is here"
    assert growing.verdicts() == [{"rule": "bird", "action": "Mask", "direction": "output", "count": 1}]


def test_a_blocked_answer_is_cut_before_the_word() -> None:
    growing = answer.Answer(1, policy("Block"))
    for text in ("a fal", "con flies", " away"):
        growing.update(update(text))
    assert growing.finished
    outputs = growing.outputs(asked(), last=True)
    assert outputs["text_output"] == ["a "]
    assert outputs["finish_reason"] == ["content_filter"]


def test_choices_are_judged_apart() -> None:
    growing = answer.Answer(2, policy("Block"))
    growing.update(update("a falcon flies", "a sparrow flies"))
    assert not growing.finished
    growing.update(update("", "!", ends="stop"))
    outputs = growing.outputs(asked(), last=True)
    assert outputs["finish_reason"] == ["content_filter", "stop"]
    assert outputs["text_output"] == ["a ", "a sparrow flies!"]


def test_an_answer_that_is_cut_short_still_obeys_the_rules() -> None:
    growing = answer.Answer(1, policy("Mask"))
    growing.update(update("see the falcon"))
    growing.end("timeout")
    outputs = growing.outputs(asked(), last=True)
    assert outputs["text_output"] == ["see the [REDACTED]"]
    assert outputs["finish_reason"] == ["timeout"]


def test_the_last_response_counts_the_whole_request() -> None:
    growing = answer.Answer(1)
    growing.update(update("a"))
    assert growing.outputs(asked(stream=True), last=False) == {"text_output": ["a"]}
    growing.update(update("b", ends="length"))
    outputs = growing.outputs(asked(stream=True), last=True)
    assert outputs == {
        "text_output": ["b"],
        "finish_reason": ["length"],
        "num_input_tokens": [3],
        "num_output_tokens": [2],
    }


def test_who_asks_for_counts_gets_them_per_response_as_from_tritons_own_backend() -> None:
    growing = answer.Answer(1)
    request = asked(stream=True, return_num_output_tokens=True, return_finish_reason=True)
    growing.update(update("a"))
    first = growing.outputs(request, last=False)
    growing.update(update("b"))
    growing.update(update("c", ends="stop"))
    second = growing.outputs(request, last=True)
    assert (first["num_output_tokens"], second["num_output_tokens"]) == ([1], [2])
    assert (first["finish_reason"], second["finish_reason"]) == (["None"], ["stop"])


def test_log_probabilities_leave_once() -> None:
    growing = answer.Answer(1)
    request = asked(stream=True, return_logprobs=True)
    entry = {"5": {"logprob": -0.5, "rank": 1, "decoded_token": "a"}}
    growing.update(backend.Update(["a"], [None], 3, [1], [[entry]], [-0.5]))  # pyright: ignore[reportArgumentType]
    assert json.loads(growing.outputs(request, last=False)["logprobs"][0]) == [entry]
    assert json.loads(growing.outputs(request, last=True)["logprobs"][0]) == []
