"""The policy of an endpoint as a model of its own: moderation of texts that need no answer."""

from __future__ import annotations

import json
import logging
from typing import Any

from tritonllm import errors, guardrails
from tritonllm.runtime import logs, screening, wire

log = logging.getLogger(__name__)

LONGEST_CHARACTERS = 1 << 17
"""Maximum length of a text: the slowest one, obfuscated throughout, takes about two seconds, in which others wait."""


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the policy from the model's config."""
        logs.name(args["model_name"])
        self.policy = screening.EndpointPolicy.load(wire.config_parameters(args)["policy"])

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

    def _judge(self, columns: dict[str, list[str]]) -> Any:
        texts = columns["text_input"]
        directions = columns.get("direction") or ["input"] * len(texts)
        judged = [self._scan(text, direction) for text, direction in zip(texts, directions, strict=True)]
        return wire.batch(
            {
                "text_output": [text for text, _, _ in judged],
                "blocked": [blocked for _, blocked, _ in judged],
                "guardrail": [verdicts for _, _, verdicts in judged],
            }
        )

    def _scan(self, text: str, direction: str) -> tuple[str, bool, str]:
        if direction not in ("input", "output"):
            raise errors.RequestError("invalid_argument", "direction", "must be `input` or `output`")
        if len(text) > LONGEST_CHARACTERS:
            raise errors.RequestError(
                "invalid_argument",
                "text_input",
                f"has {len(text)} characters; the maximum is {LONGEST_CHARACTERS}; send it in parts",
            )
        policy = self.policy.input if direction == "input" else self.policy.output
        if policy is None:
            return text, False, "[]"
        result = policy.scan(text)
        verdicts = json.dumps(guardrails.summarize(result.verdicts, direction))
        return "" if result.blocked else result.text, result.blocked, verdicts
