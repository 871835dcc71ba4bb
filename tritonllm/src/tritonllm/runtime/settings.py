"""The endpoint's settings for the pipeline, read from the model's configuration."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tritonllm import errors, pipeline_spec, sampling
from tritonllm.runtime import rendered, requests, screening


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the pipeline needs from its endpoint, besides the policy."""

    prompt: pipeline_spec.Prompt
    sampling: pipeline_spec.Sampling
    limits: pipeline_spec.Limits
    capacity: int
    prompt_characters: int

    @classmethod
    def load(cls, text: str) -> Settings:
        """Reads the config parameter `settings`."""
        values: rendered.Rendered[Any] = rendered.Rendered(json.loads(text))
        return cls(
            prompt=pipeline_spec.Prompt.model_validate(values["prompt"]),
            sampling=pipeline_spec.Sampling.model_validate(values["sampling"]),
            limits=pipeline_spec.Limits.model_validate(values["limits"]),
            capacity=values["capacity"],
            prompt_characters=values["prompt_characters"],
        )

    def admit(self, request: requests.Request, policy: screening.EndpointPolicy) -> requests.Request:
        """Applies the endpoint's sampling defaults and checks its limits.

        Raises:
            RequestError: the request exceeds a limit, or requests what the policy forbids.
        """
        if request.characters > self.prompt_characters:
            # Before the input rules, so that a prompt that cannot be answered costs nothing.
            raise errors.RequestError(
                "invalid_argument",
                "text_input" if request.messages is None else "messages",
                f"has {request.characters} characters; the maximum of this endpoint is {self.prompt_characters}",
            )
        given = self.sampling.defaults.given() | request.sampling.given()
        limit = self.sampling.max_tokens_limit
        max_tokens = given.setdefault("max_tokens", min(sampling.DEFAULT_MAX_TOKENS, limit))
        if max_tokens > limit:
            raise errors.RequestError(
                "invalid_argument",
                "sampling_parameters.max_tokens",
                f"must be at most {limit} at this endpoint, got {max_tokens}",
            )
        if policy.output and (request.wants("logprobs") or given.get("logprobs") is not None):
            raise errors.RequestError(
                "invalid_argument",
                "return_logprobs" if request.wants("logprobs") else "sampling_parameters.logprobs",
                "cannot be combined with this endpoint's output rules: log probabilities would reveal masked tokens",
            )
        if request.echo and (request.stream or request.messages):
            raise errors.RequestError(
                "invalid_argument",
                "exclude_input_in_output",
                "false requires `text_input`, and cannot be combined with `stream`",
            )
        return dataclasses.replace(request, sampling=sampling.SamplingParameters.model_validate(given))

    def compose(self, request: requests.Request) -> requests.Request:
        """The request for the engine: in the endpoint's prompt format, with its system message."""
        text, messages = request.text, request.messages
        if self.prompt.format == "Chat" and text is not None:
            text, messages = None, [{"role": "user", "content": text}]
        if self.prompt.system and messages and messages[0]["role"] not in ("system", "developer"):
            messages = [{"role": "system", "content": self.prompt.system}, *messages]
        return dataclasses.replace(request, text=text, messages=messages)
