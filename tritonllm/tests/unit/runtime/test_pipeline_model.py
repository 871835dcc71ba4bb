"""The pipeline as Triton calls it: what is refused before it is a request, and what counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fake_backend_utils import MetricFamily, Sender, Tensor
from tritonllm import api
from tritonllm.render import config
from tritonllm.runtime import metric_names, pipeline

ENDPOINT = {
    "apiVersion": api.API_VERSION,
    "kind": api.KIND,
    "metadata": {"name": "chat"},
    "spec": {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}},
}


class TritonRequest:
    def __init__(self, **inputs: Any) -> None:
        self.sender = Sender()
        self._inputs = inputs

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, np.array([value], dtype=np.object_)) for name, value in self._inputs.items()]

    def parameters(self) -> str:
        return ""

    def get_response_sender(self) -> Sender:
        return self.sender


@pytest.fixture
def model() -> Iterator[pipeline.TritonPythonModel]:
    rendered = next(
        model for model in config.models(api.LLMEndpoint.model_validate(ENDPOINT)) if model.name == "chat"
    )
    parameters = {name: {"string_value": value.string_value} for name, value in rendered.parameters.items()}
    running = pipeline.TritonPythonModel()
    running.initialize({"model_name": "chat", "model_config": json.dumps({"parameters": parameters})})
    yield running
    running.finalize()


def refused() -> float:
    series = MetricFamily.made[metric_names.REJECTIONS]
    return sum(metric.value for metric in series if metric.labels.get("reason") == "invalid_argument")


def test_a_mistake_is_answered_and_counted_a_probe_is_only_answered(
    model: pipeline.TritonPythonModel,
) -> None:
    before = refused()
    probe, mistake = TritonRequest(), TritonRequest(text_input=b"")
    model.execute([probe, mistake])
    for request in (probe, mistake):
        assert request.sender.done.wait(30)
        assert request.sender.error.startswith("[invalid_argument] text_input: ")
    model.meter._flush()
    assert refused() == before + 1
