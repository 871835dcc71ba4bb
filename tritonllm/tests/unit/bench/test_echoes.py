import random

from integration import echoes, traffic
from tritonllm import api, guardrails

POLICY = guardrails.compile(api.Guardrails.model_validate(traffic.GUARDRAILS).output)


def test_prompts_have_something_to_mask_and_something_harmless() -> None:
    for seed in range(20):
        prompt = echoes.prompt(random.Random(seed))
        masked = POLICY.scan(prompt)
        assert masked.verdicts
        assert not masked.blocked
        assert masked.text != prompt


def test_the_engine_says_the_prompt_again_and_again() -> None:
    assert echoes.said("abc ", 3) == "abc abc abc "


def test_one_character_of_what_is_masked_is_noticed() -> None:
    said = "dada fuck dete"
    masked = POLICY.scan(said).text
    assert echoes.problem(POLICY, said, "length", masked) is None
    assert echoes.problem(POLICY, said, "length", said) is not None
    assert echoes.problem(POLICY, said, "engine_failure", "dada f") is not None
    assert echoes.problem(POLICY, said, "length", masked[:-1]) is not None


def test_an_answer_that_was_interrupted_is_the_beginning_of_the_masked_text() -> None:
    said = "dada fuck dete"
    for end in ("", "da", "dada ", POLICY.scan(said).text[:8]):
        assert echoes.problem(POLICY, said, "left", end) is None
    assert echoes.problem(POLICY, said, "left", "dete") is not None


def test_a_blocked_answer_ends_before_the_phrase() -> None:
    said = f"dada {echoes.BLOCKED} dete"
    assert echoes.problem(POLICY, said, "content_filter", "dada ") is None
    assert echoes.problem(POLICY, said, "content_filter", "dada the") is not None
