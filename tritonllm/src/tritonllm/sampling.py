"""The sampling parameters that an endpoint accepts: one list for its defaults and for every request."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
Token = Annotated[int, pydantic.Field(ge=0, lt=2**31)]

# Where neither the request nor the endpoint says: enough for an answer, where vLLM's own 16 cuts it short.
DEFAULT_MAX_TOKENS = 256


class SamplingParameters(pydantic.BaseModel):
    """What a caller may ask of the sampler; names and meanings are vLLM's `SamplingParams`.

    Every field is optional: what is not set is left to the endpoint's defaults, then to the engine.
    What is missing here is missing on purpose: `prompt_logprobs` would show the prompt after the policy
    had changed it, and the rest of vLLM's fields are internal to its own server.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    n: int | None = pydantic.Field(default=None, ge=1, le=16, description="Number of answers to the prompt.")
    max_tokens: int | None = pydantic.Field(
        default=None,
        ge=1,
        lt=2**31,
        description=f"Most tokens of an answer; {DEFAULT_MAX_TOKENS} where nobody says.",
    )
    min_tokens: int | None = pydantic.Field(
        default=None, ge=0, lt=2**31, description="Fewest tokens of an answer."
    )
    temperature: float | None = pydantic.Field(
        default=None, ge=0, le=2, description="0 takes the likeliest token."
    )
    top_p: float | None = pydantic.Field(
        default=None, gt=0, le=1, description="Probability mass to sample from."
    )
    top_k: int | None = pydantic.Field(
        default=None, ge=-1, lt=2**31, description="Tokens to sample from; 0 or -1: all."
    )
    min_p: float | None = pydantic.Field(
        default=None, ge=0, le=1, description="Least probability beside the likeliest."
    )
    presence_penalty: float | None = pydantic.Field(
        default=None, ge=-2, le=2, description="Above 0: against tokens that the answer has already."
    )
    frequency_penalty: float | None = pydantic.Field(
        default=None, ge=-2, le=2, description="The same, more for each time that it has them."
    )
    repetition_penalty: float | None = pydantic.Field(
        default=None, gt=0, le=10, description="Above 1: against tokens of prompt and answer."
    )
    seed: int | None = pydantic.Field(
        default=None, ge=-(2**63), lt=2**63, description="Same seed, same answer, on one engine."
    )
    stop: Text | list[Text] | None = pydantic.Field(default=None, description="Texts that end the answer.")
    stop_token_ids: list[Token] | None = pydantic.Field(
        default=None, max_length=64, description="Tokens that end the answer."
    )
    include_stop_str_in_output: bool | None = pydantic.Field(
        default=None, description="Keep the text that ended the answer."
    )
    ignore_eos: bool | None = pydantic.Field(
        default=None, description="Go on past the end of the answer; for tests."
    )
    skip_special_tokens: bool | None = pydantic.Field(
        default=None, description="false: write tokens such as the end of a turn, too."
    )
    logprobs: int | None = pydantic.Field(
        default=None, ge=0, le=20, description="Log probabilities per token."
    )
    logit_bias: dict[str, float] | None = pydantic.Field(
        default=None, max_length=1024, description="Token id to what is added to its logit."
    )
    bad_words: list[Text] | None = pydantic.Field(
        default=None, max_length=256, description="Words that the sampler may not finish."
    )

    def given(self) -> dict[str, Any]:
        """The parameters that were set, as plain data."""
        return self.model_dump(exclude_none=True)
