"""The arguments of classifiers, for the renderer that validates them and the model that runs with them."""

from __future__ import annotations

from typing import Literal

import pydantic


class ClassifierArgs(pydantic.BaseModel):
    """`spec.engine.args` of engine type `classifier`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    device: Literal["auto", "cpu", "cuda"] = pydantic.Field(
        default="auto", description="Where the classifier runs. auto: on a GPU if there is one."
    )
    max_batch_size: int = pydantic.Field(
        default=32, ge=1, le=1024, description="Maximum number of texts that are classified at once."
    )
    max_length: int | None = pydantic.Field(
        default=None,
        ge=16,
        description="Maximum number of tokens that the classifier reads at once; the default is that of its tokenizer. A"
        " longer text is classified in parts, and has the highest score of its parts for each label.",
    )
