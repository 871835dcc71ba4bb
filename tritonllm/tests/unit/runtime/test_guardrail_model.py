"""The guardrail model as Triton calls it: one text that it can't judge fails alone, and none keeps the others waiting."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fake_backend_utils import InferenceResponse, Tensor
from tritonllm.render import canonical
from tritonllm.runtime import guardrail

RULE = {"name": "bird", "banned": {"phrases": ["falcon"]}, "action": "Mask"}


class TritonRequest:
    def __init__(self, text: str) -> None:
        self._text = text

    def inputs(self) -> list[Tensor]:
        return [Tensor("text_input", np.array([[self._text.encode()]], dtype=np.object_))]


@pytest.fixture
def judge() -> Any:
    model = guardrail.TritonPythonModel()
    parameters = {
        "policy": {"string_value": canonical.pack({"input": [RULE]})},
        "prompt_characters": {"string_value": "32768"},
    }
    model.initialize({"model_name": "chat-guardrail", "model_config": json.dumps({"parameters": parameters})})

    def answers(*texts: str) -> list[InferenceResponse]:
        return model.execute([TritonRequest(text) for text in texts])

    return answers


def test_megabytes_of_obfuscated_text_are_refused_by_their_size_and_others_are_judged(judge: Any) -> None:
    large, small = judge("@*" * (4 << 20), "a f4lcon")
    assert "has 8388608 characters; the maximum is 32768" in large.error().message()
    assert small.output_tensors()[0].as_numpy().tolist() == [[b"a [REDACTED]"]]
