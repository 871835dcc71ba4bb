"""What an endpoint's pipeline applies of its specification: prompt, sampling, guardrails and limits.

The processes of the pipeline and of the guardrail model read these parts whenever they are loaded, which every edit of them
waits for. So they are apart from the rest of the schema, which nothing here imports.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm import schema
from tritonllm.rules import Rule
from tritonllm.sampling import SamplingParameters, Text

# Each takes one of the 8 threads that Triton has for a pipeline while it is asked.
MAX_CLASSIFIERS = 4


class Prompt(schema.Model):
    """How `text_input` becomes the model's prompt."""

    format: Literal["Raw", "Chat"] = pydantic.Field(
        default="Raw",
        description="Raw: `text_input` as it is. Chat: `text_input` as the user's message in the model's chat template.",
    )
    system: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=16384)] | None = (
        pydantic.Field(
            default=None,
            description="System message of conversations that have none. Requires `format: Chat`.",
        )
    )

    @pydantic.model_validator(mode="after")
    def _system_needs_chat(self) -> Self:
        if self.system is not None and self.format != "Chat":
            raise PydanticCustomError("system_needs_chat", "`system` requires `format: Chat`")
        return self


class SamplingDefaults(SamplingParameters):
    """Sampling parameters of requests that do not set them; names and meanings are those of vLLM's `SamplingParams`.

    The engine's defaults apply to those that are not set here. `stop` is a list, because a field of Kubernetes has one
    type; in a request it can also be a string.
    """

    stop: list[Text] | None = pydantic.Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, max_length=64, description="Stop sequences: strings that end the answer."
    )


class Sampling(schema.Model):
    """Defaults and limits of the sampling parameters."""

    defaults: SamplingDefaults = pydantic.Field(
        default_factory=SamplingDefaults, description="Sampling parameters of requests that do not set them."
    )
    max_tokens_limit: int = pydantic.Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Maximum `max_tokens` of a request; a higher one is refused.",
    )

    @pydantic.model_validator(mode="after")
    def _defaults_keep_the_limit(self) -> Self:
        if (self.defaults.max_tokens or 0) > self.max_tokens_limit:
            raise PydanticCustomError(
                "over_limit",
                "`defaults.max_tokens` ({given}) must not exceed `maxTokensLimit` ({limit})",
                {"given": self.defaults.max_tokens, "limit": self.max_tokens_limit},
            )
        return self


Rules = Annotated[list[Rule], pydantic.Field(max_length=32)]


class Guardrails(schema.Model):
    """The guardrail policy of the endpoint."""

    failure_policy: Literal["Closed", "Open"] = pydantic.Field(
        default="Closed",
        description="What happens if the guardrail itself fails. Closed: the request fails. Open: the text passes unchecked.",
    )
    refusal: Literal["Error", "Message"] = pydantic.Field(
        default="Error",
        description="How OpenAI's API answers a prompt that a rule blocks. Error: with status 400 and the code `content_filter`. Message: with status 200, a text in `refusal` and the finish reason `content_filter`.",
    )
    input: Rules = pydantic.Field(default_factory=list, description="Rules for prompts.")
    output: Rules = pydantic.Field(default_factory=list, description="Rules for answers.")

    @pydantic.field_validator("input", "output")
    @classmethod
    def _unique_names(cls, rules: list[Rule]) -> list[Rule]:
        schema.require_unique_names("rule", [rule.name for rule in rules])
        return rules

    @pydantic.model_validator(mode="after")
    def _few_classifiers(self) -> Self:
        asked = sorted({rule.classifier.model for rule in (*self.input, *self.output) if rule.classifier})
        if len(asked) > MAX_CLASSIFIERS:
            raise PydanticCustomError(
                "many_classifiers",
                "the rules ask {count} classifiers ({names}); the maximum is {maximum}",
                {"count": len(asked), "names": ", ".join(asked), "maximum": MAX_CLASSIFIERS},
            )
        return self


class Limits(schema.Model):
    """Limits of the endpoint in each pod."""

    max_concurrent_requests: int = pydantic.Field(
        default=256, ge=1, le=1024, description="Maximum number of requests processed at once."
    )
    max_queued_requests: int = pydantic.Field(
        default=512,
        ge=0,
        le=65536,
        description="Maximum number of requests in the queue; further ones are refused.",
    )
    request_timeout_seconds: float = pydantic.Field(
        default=300,
        gt=0,
        le=86400,
        description="Maximum time of a request, from its arrival to the last token; then its `finish_reason` is `timeout`.",
    )
    pipeline_instances: int = pydantic.Field(
        default=1,
        ge=1,
        le=16,
        description="Number of processes of the pipeline (Triton's `instance_group` count). Several keep streams smooth "
        "at thousands of tokens per second, and need a processor core each. The limits are divided among them.",
    )
