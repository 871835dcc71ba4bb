"""The request of `POST /v1/completions`: its fields, their treatment, and the pipeline's inputs they become."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import pydantic

from tritonllm import errors
from tritonllm.gateway import generate_fields, generation
from tritonllm.gateway.fields import constrained, only, supported

_MAX_PROMPTS = 128
_NAMES = {"return_logprobs": "logprobs"}


def _kind(prompt: Any) -> str:
    return "prompts" if isinstance(prompt, list) else "text"


Prompts = Annotated[
    Annotated[str, pydantic.Tag("text")]
    | Annotated[list[str], pydantic.Field(min_length=1, max_length=_MAX_PROMPTS), pydantic.Tag("prompts")],
    pydantic.Discriminator(_kind),
]


class CompletionRequest(generate_fields.Generating):
    """The body."""

    prompt: Annotated[
        Prompts,
        constrained(
            "Guarded", "A string, or a list of at most 128. Token ids are refused: rules are for texts."
        ),
    ]
    max_tokens: Annotated[
        int | None,
        supported(
            "Constrained", "Maximum number of tokens to generate; the endpoint has a limit and a default."
        ),
    ] = pydantic.Field(default=None, ge=1, lt=2**31)
    logprobs: Annotated[
        int | None,
        constrained(
            "Opaque", "0 to 20. Refused by endpoints with output rules: it would show what they remove."
        ),
    ] = pydantic.Field(default=None, ge=0, le=20)
    echo: Annotated[
        Any, only(False, note="The answer does not repeat the prompt, which rules may have changed.")
    ] = None
    suffix: Annotated[
        Any, only("", note="The engine has no fill-in-the-middle; write it into the prompt.")
    ] = None
    response_format: Annotated[Any, only({"type": "text"}, note="vLLM's; use `structured_outputs`.")] = None

    @pydantic.field_validator("prompt", mode="before")
    @classmethod
    def _no_tokens(cls, prompt: Any) -> Any:
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], (int, list)):
            raise errors.RequestError(
                "invalid_argument",
                "prompt",
                "token ids are not supported: guardrail rules are for texts; send a string",
            )
        return prompt

    def prompts(self) -> list[generation.Prompt]:
        """What is asked.

        Raises:
            RequestError: a field is not valid.
        """
        parameters = self.sampling_parameters()
        if self.logprobs is not None:
            parameters["logprobs"] = self.logprobs
        inputs = {
            "sampling_parameters": orjson.dumps(parameters).decode(),
            **generate_fields.flags(
                stream=bool(self.stream), n=self.choices, logprobs=self.logprobs is not None
            ),
        }
        listed = (
            {"prompt": self.prompt}
            if isinstance(self.prompt, str)
            else {f"prompt[{index}]": text for index, text in enumerate(self.prompt)}
        )
        return [
            generation.Prompt({"text_input": text, **inputs}, field, {**_NAMES, "text_input": field})
            for field, text in listed.items()
        ]
