"""Asks loaded models a question, to find those whose process runs but does not answer."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Sequence

from tritonllm import api
from tritonllm.serve import control_api, health

# All questions are asked at the same time, so that /livez answers within the timeout of a kubelet.
_ANSWER_SECONDS = 3.0


class ModelProbes:
    """The questions for the models of one tritonserver. Engines and classifiers are not asked: a request would cost GPU time."""

    def __init__(self, control: control_api.ControlApi, endpoints: Sequence[api.LLMEndpoint]) -> None:
        """Starts without a failure.

        Args:
            control: API of the server.
            endpoints: to serve.
        """
        self._questions: dict[str, Callable[[], None]] = {}
        for endpoint in endpoints:
            if endpoint.is_classifier:
                continue
            guardrail, pipeline = endpoint.guardrail_name, endpoint.name
            self._questions[guardrail] = functools.partial(control.ask_guardrail, guardrail, _ANSWER_SECONDS)
            self._questions[pipeline] = functools.partial(control.ask_pipeline, pipeline, _ANSWER_SECONDS)
        self._detector = health.StuckDetector()

    def unanswered(self, models: Iterable[str], now: float) -> dict[str, str]:
        """Models that have failed to answer for a while, each with the error.

        One failure does not count: a pipeline with many requests, or a guardrail with long texts, can answer late.

        Args:
            models: those to ask, if there is a question for them.
            now: the monotonic clock.
        """
        return self._detector.stuck(self._ask([model for model in models if model in self._questions]), now)

    def _ask(self, models: Sequence[str]) -> dict[str, str]:
        if not models:
            return {}
        with concurrent.futures.ThreadPoolExecutor(len(models)) as pool:
            answers = {model: pool.submit(self._questions[model]) for model in models}
        errors = {model: answer.exception() for model, answer in answers.items()}
        return {model: str(error) for model, error in errors.items() if error is not None}
