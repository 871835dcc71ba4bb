"""The policy of an endpoint as a model of its own: moderation of texts that need no answer."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

from tritonllm import errors
from tritonllm.runtime import classifier_calls, judging, logs, screening, threads, wire

log = logging.getLogger(__name__)


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the policy from the model's config."""
        logs.name(args["model_name"])
        parameters = wire.config_parameters(args)
        self.policy = screening.EndpointPolicy.load(
            parameters["policy"], int(parameters["prompt_characters"])
        )
        # A garbage collection of all that was loaded would take longer than the rules do in a step.
        gc.freeze()
        gc.enable()
        # Classifiers are asked in an event loop.
        self.events = threads.EventLoop("judges") if self.policy.classifiers else None
        if self.events is not None:
            classifiers = classifier_calls.TritonClassifiers(self.policy.classifiers)
            self.judging = judging.Judging(self.events.loop, classifiers, lambda _: None)

    def finalize(self) -> None:
        """Ends the threads."""
        if self.events is not None:
            self.judging.close()
            self.events.close()

    def execute(self, triton_requests: list[Any]) -> list[Any]:
        """Answers a batch; a text that can't be judged fails its own request only."""
        return [self._answer(triton_request) for triton_request in triton_requests]

    def _answer(self, triton_request: Any) -> Any:
        try:
            return self._judge(wire.columns(triton_request))
        except errors.RequestError as error:
            return wire.error(error)
        except Exception as error:
            log.exception("a text could not be judged")
            return wire.error(
                errors.RequestError("guardrail_failure", "", f"the guardrail failed: {error!r}")
            )

    async def _ask(self, checked: list[screening.Checked]) -> list[screening.Checked]:
        return await asyncio.gather(*(self.judging.check(self.policy, each) for each in checked))

    def _judge(self, columns: dict[str, list[str]]) -> Any:
        texts = columns["text_input"]
        directions = columns.get("direction") or ["input"] * len(texts)
        checked = [
            screening.check(self.policy, text, direction)
            for text, direction in zip(texts, directions, strict=True)
        ]
        if self.events is not None:
            checked = self.events.result(self._ask(checked))
        return wire.batch(
            {
                "text_output": [each.text for each in checked],
                "blocked": [each.blocked for each in checked],
                "guardrail": [each.guardrail for each in checked],
            }
        )
