"""The next token follows the sampling parameters."""

from __future__ import annotations

import collections
import math
from typing import Any

import pytest
import torch

from tritonllm.runtime import token_sampling

LOGITS = [2.0, 1.0, 0.5, 0.0]
PROMPT = [0, 1]


def sampler(
    choice: int = 0, bad_words: Any = (), stop_tokens: Any = (), **given: Any
) -> token_sampling.Sampler:
    return token_sampling.Sampler(
        given,
        choice=choice,
        prompt_tokens=len(PROMPT),
        stop_tokens=stop_tokens,
        bad_words=list(bad_words),
        device=torch.device("cpu"),
    )


def choose(logits: list[float] = LOGITS, answer: Any = (), **given: Any) -> int:
    return int(sampler(**given).choose([*PROMPT, *answer], torch.tensor(logits)))


def draws(count: int = 4000, **given: Any) -> collections.Counter[int]:
    made, logits = sampler(seed=1, **given), torch.tensor(LOGITS)
    return collections.Counter(int(made.choose(PROMPT, logits)) for _ in range(count))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0),
        ({"logit_bias": {"3": 10.0}}, 3),
        ({"logit_bias": {"0": -100}}, 1),
        ({"bad_words": [[0]]}, 1),
        ({"bad_words": [[2, 0]], "answer": [2]}, 1),
        ({"bad_words": [[2, 0]], "answer": [3]}, 0),
        ({"presence_penalty": 1.5, "answer": [0]}, 1),
        ({"presence_penalty": 1.5}, 0),
        ({"frequency_penalty": 0.8, "answer": [0]}, 0),
        ({"frequency_penalty": 0.8, "answer": [0, 0]}, 1),
        ({"repetition_penalty": 8.0}, 2),
        ({"min_tokens": 2, "stop_tokens": {0}, "answer": [3]}, 1),
        ({"min_tokens": 2, "stop_tokens": {0}, "answer": [3, 3]}, 0),
    ],
)
def test_the_most_likely_token_after_biases_and_penalties_is_chosen_at_temperature_0(
    given: dict[str, Any], expected: int
) -> None:
    assert choose(temperature=0.0, **given) == expected


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    found = draws()
    for token, probability in enumerate(torch.tensor(LOGITS).softmax(-1).tolist()):
        assert found[token] / found.total() == pytest.approx(probability, abs=0.03)


def test_a_higher_temperature_makes_all_tokens_more_alike() -> None:
    assert draws(temperature=0.5)[0] > draws()[0] > draws(temperature=2.0)[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 0}, {0, 1, 2, 3}),
        ({"top_k": -1}, {0, 1, 2, 3}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.7}, {0, 1}),
        ({"min_p": 0.3}, {0, 1}),
    ],
)
def test_only_likely_tokens_are_sampled_from(given: dict[str, Any], expected: set[int]) -> None:
    assert draws(300, **given).keys() == expected


def test_a_seed_repeats_an_answer_and_each_choice_has_its_own() -> None:
    flat = [0.0] * 1000

    def answers(**options: Any) -> list[int]:
        made = sampler(**options)
        return [int(made.choose(PROMPT, torch.tensor(flat))) for _ in range(5)]

    assert answers(seed=7) == answers(seed=7)
    assert len({tuple(answers(seed=7, choice=choice)) for choice in range(3)}) == 3
    assert answers() != answers()


def test_a_model_that_computes_no_numbers_ends_nothing() -> None:
    assert choose([math.nan] * 4) in range(4)


def test_log_probabilities_are_those_of_the_model_whatever_was_chosen() -> None:
    expected = torch.tensor(LOGITS).log_softmax(-1).tolist()
    found = token_sampling.logprobs(torch.tensor(LOGITS), 3, 2, lambda tokens: f"<{tokens[0]}>")
    assert list(found) == [3, 0, 1]
    assert [found[token]["logprob"] for token in found] == pytest.approx([expected[token] for token in found])
    assert [found[token]["rank"] for token in found] == [4, 1, 2]
    assert found[3]["decoded_token"] == "<3>"


def test_an_impossible_token_has_a_log_probability_that_json_can_express() -> None:
    for impossible in (-math.inf, math.nan):
        found = token_sampling.logprobs(torch.tensor([0.0, impossible]), 1, 0, str)
        assert found[1]["logprob"] == -9999.0
