"""The sampling parameters of a request, and of an endpoint's defaults."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pydantic

Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
Token = Annotated[int, pydantic.Field(ge=0, lt=2**31)]

# If neither the request nor the endpoint sets it. vLLM's default of 16 cuts most answers short.
DEFAULT_MAX_TOKENS = 256


# Larger ones would cost more time to compile than requests should wait for.
_LONGEST_CONSTRAINT = 1 << 16
_CONSTRAINTS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "json": ((dict, str), "a JSON schema"),
    "json_object": (bool, "true"),
    "regex": (str, "a string"),
    "choice": (list, "a list of strings"),
    "grammar": (str, "a string"),
}


def _constraint(value: dict[str, Any]) -> dict[str, Any]:
    """Checks `structured_outputs`: the names and meanings are those of vLLM's `StructuredOutputsParams`."""
    if len(value) != 1 or next(iter(value)) not in _CONSTRAINTS:
        raise ValueError(f"must have exactly one of {', '.join(f'`{name}`' for name in _CONSTRAINTS)}")
    ((name, content),) = value.items()
    kind, words = _CONSTRAINTS[name]
    if not isinstance(content, kind) or content is False:
        raise ValueError(f"`{name}` must be {words}")
    if name == "choice" and not (content and all(isinstance(each, str) and each for each in content)):
        raise ValueError("`choice` must be a list of strings, none of them empty")
    if len(json.dumps(content)) > _LONGEST_CONSTRAINT:
        raise ValueError(f"`{name}` must be at most {_LONGEST_CONSTRAINT} characters long")
    return value


class SamplingParameters(pydantic.BaseModel):
    """The sampling parameters; names and meanings are those of vLLM's `SamplingParams`.

    Every field is optional: the endpoint's defaults apply first, then those of the engine. Fields of vLLM
    that are not here are excluded on purpose: `prompt_logprobs` would show the prompt as masked by the policy,
    and the others are internal to vLLM's server.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    n: int | None = pydantic.Field(default=None, ge=1, le=16, description="Number of answers to generate.")
    max_tokens: int | None = pydantic.Field(
        default=None,
        ge=1,
        lt=2**31,
        description=f"Maximum number of tokens to generate (default: {DEFAULT_MAX_TOKENS}).",
    )
    min_tokens: int | None = pydantic.Field(
        default=None, ge=0, lt=2**31, description="Minimum number of tokens to generate."
    )
    temperature: float | None = pydantic.Field(
        default=None, ge=0, le=2, description="Randomness of sampling; 0 always takes the most likely token."
    )
    top_p: float | None = pydantic.Field(
        default=None, gt=0, le=1, description="Cumulative probability of the tokens to sample from."
    )
    top_k: int | None = pydantic.Field(
        default=None, ge=-1, lt=2**31, description="Number of tokens to sample from; 0 or -1 for all."
    )
    min_p: float | None = pydantic.Field(
        default=None, ge=0, le=1, description="Minimum probability relative to the most likely token."
    )
    presence_penalty: float | None = pydantic.Field(
        default=None, ge=-2, le=2, description="Above 0, penalizes tokens that are already in the answer."
    )
    frequency_penalty: float | None = pydantic.Field(
        default=None,
        ge=-2,
        le=2,
        description="Above 0, penalizes tokens by how often they are in the answer.",
    )
    repetition_penalty: float | None = pydantic.Field(
        default=None,
        gt=0,
        le=10,
        description="Above 1, penalizes tokens that are in the prompt or the answer.",
    )
    seed: int | None = pydantic.Field(
        default=None,
        ge=-(2**63),
        lt=2**63,
        description="Seed of the random numbers, for reproducible answers of one engine.",
    )
    stop: Text | list[Text] | None = pydantic.Field(
        default=None, description="Stop sequences: strings that end the answer."
    )
    stop_token_ids: list[Token] | None = pydantic.Field(
        default=None, max_length=64, description="Ids of tokens that end the answer."
    )
    include_stop_str_in_output: bool | None = pydantic.Field(
        default=None, description="Include the stop sequence in the answer."
    )
    ignore_eos: bool | None = pydantic.Field(
        default=None, description="Continue after the end-of-sequence token; for tests."
    )
    skip_special_tokens: bool | None = pydantic.Field(
        default=None,
        description="If false, special tokens, such as the end of a turn, are part of the answer.",
    )
    logprobs: int | None = pydantic.Field(
        default=None, ge=0, le=20, description="Number of log probabilities to return per token."
    )
    logit_bias: dict[str, float] | None = pydantic.Field(
        default=None, max_length=1024, description="Maps token ids to a bias added to their logits."
    )
    bad_words: list[Text] | None = pydantic.Field(
        default=None, max_length=256, description="Words that must not be generated."
    )

    structured_outputs: Annotated[dict[str, Any], pydantic.AfterValidator(_constraint)] | None = (
        pydantic.Field(
            default=None,
            description="Form of the answer: an object with one of `json` (a JSON schema), `json_object` (true), `regex`, "
            "`choice` (a list of strings) and `grammar`.",
        )
    )

    def given(self) -> dict[str, Any]:
        """The parameters that are set, as plain data."""
        return self.model_dump(exclude_none=True)
