"""Rules that ask a text classifier, which another endpoint of the pool serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import pydantic

from tritonllm import schema
from tritonllm.rules import kinds


class Classifier(kinds.Kind):
    """A text classifier, asked about the text in overlapping windows, after the other rules."""

    maskable: ClassVar[bool] = False

    model: schema.Name = pydantic.Field(
        description="Name of an endpoint of the same pool with `engine.type: classifier`."
    )
    labels: Annotated[
        list[Annotated[str, pydantic.StringConstraints(min_length=1, max_length=64)]],
        pydantic.Field(min_length=1, max_length=32),
    ] = pydantic.Field(description="Labels of the classifier that the rule looks for.")
    threshold: float = pydantic.Field(
        default=0.5, gt=0, le=1, description="The rule matches if one of the labels has at least this score."
    )
    window: int = pydantic.Field(
        default=512,
        ge=128,
        le=8192,
        description="Length of a window in characters. Each window overlaps the next one by half, so a passage of up to"
        " half a window is judged as a whole.",
    )
    mode: Literal["Hold", "Observe"] = pydantic.Field(
        default="Hold",
        description="Hold: text leaves, and a prompt reaches the engine, only after it has been judged. Observe: text is not"
        " delayed; a match ends the answer when the verdict arrives.",
    )
    timeout_seconds: float = pydantic.Field(
        default=10,
        gt=0,
        le=60,
        description="Maximum time to judge a window. One that takes longer counts as a failure of the guardrail.",
    )

    def searches(self) -> Iterable[kinds.Search]:
        """See `kinds.Kind`. Nothing: judges decide about what these let through; see `guardrails.judges`."""
        return ()
