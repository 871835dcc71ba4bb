"""The arguments of the simulated engine: what `render` checks them against and what the engine runs with."""

from __future__ import annotations

from typing import Literal

import pydantic

from tritonllm import api


class SimulatedArgs(pydantic.BaseModel):
    """`spec.engine.args` of engine type `simulated`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    reply: Literal["words", "echo"] = pydantic.Field(
        default="words",
        description="words: invented ones. echo: the prompt, or the last turn of a conversation.",
    )
    seed: int = pydantic.Field(default=0, description="Other words for another seed.")
    time_to_first_token_seconds: float = pydantic.Field(
        default=0, ge=0, le=3600, description="How long the first token takes."
    )
    inter_token_seconds: float = pydantic.Field(
        default=0, ge=0, le=3600, description="How long every other token takes."
    )
    max_num_seqs: int = pydantic.Field(
        default=api.DEFAULT_MAX_NUM_SEQS, ge=1, description="Answers made at once."
    )
    max_model_len: int = pydantic.Field(default=4096, ge=1, description="Most tokens of prompt and answer.")
    fail_on: str = pydantic.Field(
        default="", description="A prompt with this text in it fails after a few tokens."
    )
    load_seconds: float = pydantic.Field(default=0, ge=0, description="How long loading takes.")
    fail_to_load: str = pydantic.Field(default="", description="The engine can't be loaded, for this reason.")
