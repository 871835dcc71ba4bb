"""Engine type `classifier`: a sequence classifier that the rules of other endpoints ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from tritonllm.engines.base import Args, Arguments, EngineType, Package, Problem

_SKLEARN = Package(
    "sklearn",
    "scikit-learn is not installed; `pip install scikit-learn`, in the version that wrote the model",
)


class ClassifierArgs(Arguments):
    """`spec.engine.args` of engine type `classifier`."""

    library: Literal["transformers", "sklearn"] = pydantic.Field(
        default="transformers",
        description="Library of the model. sklearn: a scikit-learn classifier with `predict_proba` in `model.joblib`, after the"
        " transformer in `vectorizer.joblib` if there is one. It needs `spec.model.allowPickle`, and runs on the CPU.",
    )
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

    def check(
        self, args: Args, *, trust_remote_code: bool = False, vllm_version: str | None = None
    ) -> list[Problem]:
        """See `EngineType.check`."""
        found = super().check(args)
        if not found and self.loads_pickle(args):
            found = [
                (f"spec.engine.args.{name}", "only a classifier of transformers has this; remove it")
                for name in ("device", "max_length")
                if name in args
            ]
        return found

    def loads_weights(self, args: Args) -> bool:
        """See `EngineType.loads_weights`."""
        return not self.loads_pickle(args)

    def model_files(self, args: Args) -> tuple[str, ...]:
        """See `EngineType.model_files`."""
        return ("model.joblib",) if self.loads_pickle(args) else super().model_files(args)

    def loads_pickle(self, args: Args) -> bool:
        """See `EngineType.loads_pickle`."""
        return args.get("library") == "sklearn"

    def required_package(self, args: Args) -> Package | None:
        """See `EngineType.required_package`."""
        return _SKLEARN if self.loads_pickle(args) else self.package

    def hashed(self, args: Args) -> dict[str, Any]:
        """See `EngineType.hashed`: what differs from the defaults."""
        return ClassifierArgs.model_validate(args).model_dump(mode="json", exclude_defaults=True)

    def model_json(self, args: Args, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """See `EngineType.model_json`."""
        return dict(args)


CLASSIFIER = Classifier()
