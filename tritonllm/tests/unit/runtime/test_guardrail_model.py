"""The guardrail model as Triton calls it: one text that it can't judge fails alone, and none keeps the others waiting."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fake_backend_utils import InferenceRequest, InferenceResponse, Tensor, TritonError
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


def test_a_configuration_of_an_older_operator_is_refused_with_what_it_lacks_and_what_to_do() -> None:
    config = json.dumps({"parameters": {"policy": {"string_value": canonical.pack({})}}})
    with pytest.raises(ValueError, match=r"lacks `prompt_characters`, .* upgrade the operator"):
        guardrail.TritonPythonModel().initialize({"model_name": "chat-guardrail", "model_config": config})


def test_megabytes_of_obfuscated_text_are_refused_by_their_size_and_others_are_judged(judge: Any) -> None:
    large, small = judge("@*" * (4 << 20), "a f4lcon")
    assert "has 8388608 characters; the maximum is 32768" in large.error().message()
    assert small.output_tensors()[0].as_numpy().tolist() == [[b"a [REDACTED]"]]


ASKING = {"name": "toxic", "classifier": {"model": "toxicity", "labels": ["toxic"]}, "action": "Block"}


def test_a_text_that_matchers_let_through_is_judged_by_the_classifier_and_a_failure_fails_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []

    def call(request: InferenceRequest) -> InferenceResponse:
        [text] = request.inputs[0].as_numpy().reshape(-1).tolist()
        asked.append(text)
        if text == b"fail":
            return InferenceResponse(error=TritonError("out of memory"))
        label, score = np.array([[b"toxic"]], dtype=np.object_), np.array([[float(b"vermin" in text)]])
        return InferenceResponse([Tensor("label", label), Tensor("score", score)])

    monkeypatch.setattr(InferenceRequest, "call", call, raising=False)
    model = guardrail.TritonPythonModel()
    policy = {"string_value": canonical.pack({"input": [RULE, ASKING]})}
    parameters = {"policy": policy, "prompt_characters": {"string_value": "32768"}}
    model.initialize({"model_name": "chat-guardrail", "model_config": json.dumps({"parameters": parameters})})
    texts = ("a falcon", "you vermin", "fail", "")
    good, bad, failed, empty = model.execute([TritonRequest(text) for text in texts])
    model.finalize()
    assert [each.output_tensors()[1].as_numpy().tolist() for each in (good, bad, empty)] == [
        [[False]],
        [[True]],
        [[False]],
    ]
    assert "[guardrail_failure]" in failed.error().message()
    assert "out of memory" in failed.error().message()
    # The supervisor's probe is an empty text: it must not depend on the classifier.
    assert asked == [b"a [REDACTED]", b"you vermin", b"fail"]
