"""Engine type `simulated`: random words at a given speed, for tests and for capacity planning without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from tritonllm.engines.base import DEFAULT_MAX_NUM_SEQS, Arguments, EngineType


class SimulatedArgs(Arguments):
    """`spec.engine.args` of engine type `simulated`."""

    reply: Literal["words", "echo"] = pydantic.Field(
        default="words",
        description="words: random words. echo: the prompt, or the last message of a conversation.",
    )
    seed: int = pydantic.Field(default=0, description="Seed of the random words.")
    time_to_first_token_seconds: float = pydantic.Field(
        default=0, ge=0, le=3600, description="Time to the first token."
    )
    inter_token_seconds: float = pydantic.Field(
        default=0, ge=0, le=3600, description="Time between two tokens."
    )
    max_num_seqs: int = pydantic.Field(
        default=DEFAULT_MAX_NUM_SEQS, ge=1, description="Maximum number of requests processed at once."
    )
    max_model_len: int = pydantic.Field(
        default=4096, ge=1, description="Maximum number of tokens of prompt and answer together."
    )
    fail_on: str = pydantic.Field(
        default="", description="Requests whose prompt contains this string fail after a few tokens."
    )
    fail_to_load: str = pydantic.Field(
        default="", description="If set, loading the engine fails with this message."
    )
    load_seconds: float = pydantic.Field(default=0, ge=0, description="Duration of loading the engine.")


class Simulated(EngineType):
    """See the module."""

    name = "simulated"
    description = "`simulated` generates random words, without weights or a GPU."
    label = "the simulated engine"
    needs_weights = False
    backend = "tritonllm.runtime.simulated:SimulatedBackend"
    arguments = SimulatedArgs

    def search_space(self, gpus: int) -> Mapping[str, tuple[Any, ...]]:
        """See `EngineType.search_space`."""
        return {"max_num_seqs": (16, 32, 64, 128, 256, 512)}


SIMULATED = Simulated()
