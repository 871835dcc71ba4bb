"""The pipeline's part of an endpoint, as it travels in the model's config, back as typed values."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tritonllm import api, errors, sampling
from tritonllm.runtime import requests, screening


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the pipeline needs to know of its endpoint, beside the policy."""

    prompt: api.Prompt
    sampling: api.Sampling
    limits: api.Limits
    capacity: int
    prompt_characters: int

    @classmethod
    def load(cls, text: str) -> Settings:
        """Reads the config parameter `settings`."""
        values: dict[str, Any] = json.loads(text)
        return cls(
            prompt=api.Prompt.model_validate(values["prompt"]),
            sampling=api.Sampling.model_validate(values["sampling"]),
            limits=api.Limits.model_validate(values["limits"]),
            capacity=values["capacity"],
            prompt_characters=values["prompt_characters"],
        )

    def admit(self, request: requests.Request, policy: screening.Policy) -> requests.Request:
        """The request with the endpoint's sampling defaults, if it keeps the endpoint's limits.

        Raises:
            RequestError: the request asks for what this endpoint does not give.
        """
        if request.characters > self.prompt_characters:
            # Refused before the input rules read it: a text that can't be answered shall cost nothing.
            raise errors.RequestError(
                "invalid_argument",
                "text_input" if request.messages is None else "messages",
                f"has {request.characters} characters; this endpoint reads {self.prompt_characters} at most",
            )
        given = self.sampling.defaults.given() | request.sampling.given()
        limit = self.sampling.max_tokens_limit
        most = given.setdefault("max_tokens", min(sampling.DEFAULT_MAX_TOKENS, limit))
        if most > limit:
            raise errors.RequestError(
                "invalid_argument",
                "sampling_parameters.max_tokens",
                f"{most} is over this endpoint's limit of {limit}",
            )
        if policy.output and (request.wants("logprobs") or given.get("logprobs") is not None):
            raise errors.RequestError(
                "invalid_argument",
                "return_logprobs" if request.wants("logprobs") else "sampling_parameters.logprobs",
                "this endpoint's output rules forbid log probabilities, which would show the tokens they hide",
            )
        if request.echo and (request.stream or request.messages):
            raise errors.RequestError(
                "invalid_argument",
                "exclude_input_in_output",
                "false needs `text_input`, and `stream` off",
            )
        return dataclasses.replace(request, sampling=sampling.SamplingParameters.model_validate(given))

    def compose(self, request: requests.Request) -> requests.Request:
        """The prompt as the engine gets it: in the endpoint's format, with its system turn."""
        text, messages = request.text, request.messages
        if self.prompt.format == "Chat" and text is not None:
            text, messages = None, [{"role": "user", "content": text}]
        if self.prompt.system and messages and messages[0]["role"] not in ("system", "developer"):
            messages = [{"role": "system", "content": self.prompt.system}, *messages]
        return dataclasses.replace(request, text=text, messages=messages)
