"""Engine type `classifier`: a sequence classifier that the rules of other endpoints ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from tritonllm.engines.base import Args, Arguments, EngineType, Package


class ClassifierArgs(Arguments):
    """`spec.engine.args` of engine type `classifier`."""

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


class Classifier(EngineType):
    """See the module."""

    name = "classifier"
    description = "`classifier` serves a text classifier for the `classifier` rules of other endpoints, and generates no text."
    label = "a classifier"
    generates_text = False
    package = Package("transformers", "transformers is not installed; `pip install transformers torch`")
    arguments = ClassifierArgs

    def hashed(self, args: Args) -> dict[str, Any]:
        """See `EngineType.hashed`: what differs from the defaults."""
        return ClassifierArgs.model_validate(args).model_dump(mode="json", exclude_defaults=True)

    def model_json(self, args: Args, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """See `EngineType.model_json`."""
        return dict(args)


CLASSIFIER = Classifier()
