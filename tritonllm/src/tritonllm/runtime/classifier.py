"""The model of a classifier endpoint: texts in, a score for each label out; batched by Triton."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors
from tritonllm.engines.classifier import ClassifierArgs
from tritonllm.runtime import logs, model_json, wire

log = logging.getLogger(__name__)


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the classifier."""
        logs.name(args["model_name"])
        directory = pathlib.Path(args["model_repository"], args["model_version"])
        model = model_json.read(json.loads((directory / "model.json").read_text()))
        parsed = ClassifierArgs.model_validate(model.args)
        # Each needs a library that need not be there for the other.
        if parsed.library == "sklearn":
            from tritonllm.runtime import sklearn_classification

            self.classifier = sklearn_classification.SklearnClassifier(model.weights, parsed)
        else:
            from tritonllm.runtime import sequence_classification

            self.classifier = sequence_classification.SequenceClassifier(
                model.weights, trust_remote_code=model.trust_remote_code, args=parsed
            )
        self.labels = np.array([label.encode() for label in self.classifier.labels], dtype=np.object_)

    def execute(self, triton_requests: list[Any]) -> list[Any]:
        """Classifies the texts of all requests of a batch at once."""
        texts: list[list[str]] = []
        problems: list[errors.RequestError | None] = []
        for request in triton_requests:
            try:
                texts.append(wire.columns(request)["text"])
                problems.append(None)
            except errors.RequestError as error:
                texts.append([])
                problems.append(error)
        try:
            scores = iter(self.classifier.classify([text for each in texts for text in each]))
        except Exception as error:
            log.exception("texts could not be classified")
            problem = errors.RequestError("internal", "", f"the classifier failed: {error!r}")
            return [wire.error(each or problem) for each in problems]
        return [
            wire.error(problem) if problem else self._response([next(scores) for _ in each])
            for each, problem in zip(texts, problems, strict=True)
        ]

    def _response(self, scores: list[list[float]]) -> Any:
        labels = np.tile(self.labels, (len(scores), 1))
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("label", labels),
                pb_utils.Tensor("score", np.array(scores, dtype=np.float32)),
            ]
        )
