"""The fields that the requests for chat and for completions have in common: sampling, streaming, and what is ignored.

Sampling parameters are those of the pipeline, under vLLM's names, which include OpenAI's; see `sampling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from tritonllm import errors, sampling
from tritonllm.gateway import fields
from tritonllm.gateway.fields import constrained, ignored, only, refused, supported

_LARGEST_BIAS = 100.0


class StreamOptions(fields.Fields):
    """`stream_options`."""

    include_usage: Annotated[
        bool | None, supported("Constrained", "The last chunk before `[DONE]` has the usage and no choices.")
    ] = None
    continuous_usage_stats: Annotated[
        bool | None,
        supported("Constrained", "vLLM's: with `include_usage`, every chunk has the usage so far."),
    ] = None
    include_obfuscation: Annotated[Any, ignored("Chunks are never padded.")] = None


class StructuredOutputs(fields.Fields):
    """`structured_outputs`, as in vLLM's server: exactly one of its fields."""

    json_: Annotated[
        dict[str, Any] | str | None,
        supported(
            "Opaque",
            "A JSON schema. It becomes a grammar; what it makes the model write passes the output rules.",
        ),
    ] = pydantic.Field(default=None, alias="json")
    regex: Annotated[str | None, supported("Opaque", "A regular expression; as `json`.")] = None
    choice: Annotated[list[str] | None, supported("Opaque", "The possible answers; as `json`.")] = None
    grammar: Annotated[str | None, supported("Opaque", "A context-free grammar; as `json`.")] = None
    json_object: Annotated[bool | None, supported("Constrained", "Any JSON object.")] = None


class Generating(sampling.SamplingParameters, fields.Body):
    """What is common to requests that generate text."""

    model: Annotated[str, supported("Constrained", "Name of the endpoint.")]
    n: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        int | None, constrained("Constrained", "Number of answers per prompt, 1 to 16 (default: 1).")
    ] = pydantic.Field(default=None, ge=1, le=16)
    stop: Annotated[
        sampling.Text | list[sampling.Text] | None,
        supported(
            "Opaque", "Stop sequences. They are compared with the answer and are not part of any prompt."
        ),
    ] = None
    bad_words: Annotated[
        list[sampling.Text] | None,
        supported("Opaque", "vLLM's: words that must not be generated. They are not part of any prompt."),
    ] = pydantic.Field(default=None, max_length=256)
    logit_bias: Annotated[
        dict[str, float] | None,
        supported(
            "Constrained",
            "Biases by token id; values beyond -100 and 100 count as these, as in vLLM's server.",
        ),
    ] = pydantic.Field(default=None, max_length=1024)
    structured_outputs: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        StructuredOutputs | None,
        supported("Opaque", "vLLM's: a schema or grammar that the answer has to follow."),
    ] = None
    stream: Annotated[bool | None, supported("Constrained", "Answer by server-sent events.")] = None
    stream_options: Annotated[StreamOptions | None, supported("Constrained", "Options of the stream.")] = None
    user: Annotated[Any, ignored("It is not forwarded or logged.")] = None
    use_beam_search: Annotated[Any, only(False, note="vLLM's; beam search is not available.")] = None
    best_of: Annotated[Any, only(1, note="The best of several answers is not chosen; use `n`.")] = None
    prompt_logprobs: Annotated[
        Any, refused("vLLM's; it would show the prompt as the input rules have changed it.")
    ] = None
    allowed_token_ids: Annotated[Any, refused("vLLM's; use `logit_bias` or `structured_outputs`.")] = None
    truncate_prompt_tokens: Annotated[
        Any, refused("vLLM's; a truncated prompt is another prompt than the rules have seen.")
    ] = None
    priority: Annotated[Any, only(0, note="vLLM's; requests are answered in the order of their arrival.")] = (
        None
    )
    add_special_tokens: Annotated[Any, refused("vLLM's; the tokenizer's own setting applies.")] = None
    spaces_between_special_tokens: Annotated[
        Any, only(True, note="vLLM's; the engine's own setting applies.")
    ] = None
    length_penalty: Annotated[Any, only(1, note="vLLM's; it is for beam search.")] = None
    request_id: Annotated[Any, refused("vLLM's; send the header `X-Request-Id`.")] = None
    return_token_ids: Annotated[
        Any, only(False, note="vLLM's; token ids would show what the output rules have removed.")
    ] = None
    return_tokens_as_token_ids: Annotated[Any, only(False, note="vLLM's; as `return_token_ids`.")] = None

    @property
    def choices(self) -> int:
        """Number of answers per prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return bool(self.stream and self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk has the usage so far."""
        options = self.stream_options
        return self.include_usage and options is not None and bool(options.continuous_usage_stats)

    def sampling_parameters(self) -> dict[str, Any]:
        """The pipeline's sampling parameters, without those that the routes translate themselves."""
        found = {
            name: value
            for name in sampling.SamplingParameters.model_fields
            if name not in _TRANSLATED and (value := getattr(self, name)) is not None
        }
        found["n"] = self.choices
        if self.logit_bias is not None:
            found["logit_bias"] = {
                token: max(-_LARGEST_BIAS, min(_LARGEST_BIAS, bias))
                for token, bias in self.logit_bias.items()
            }
        if self.structured_outputs is not None:
            found["structured_outputs"] = structured(self.structured_outputs)
        return found


_TRANSLATED = frozenset({"n", "logprobs", "logit_bias", "structured_outputs"})


def structured(given: StructuredOutputs) -> dict[str, Any]:
    """The pipeline's `structured_outputs`.

    Raises:
        RequestError: not exactly one of its fields is set.
    """
    found = given.model_dump(by_alias=True, exclude_none=True)
    if len(found) != 1:
        names = ", ".join(f"`{name}`" for name in fields.treatments(StructuredOutputs))
        raise errors.RequestError(
            "invalid_argument", "structured_outputs", f"must have exactly one of {names}"
        )
    return found


def flags(*, stream: bool, n: int, logprobs: bool) -> Mapping[str, bool]:
    """The pipeline's flags.

    Tokens are counted as they come, so that the usage of a client that leaves in the middle is known.
    """
    wanted = {
        "stream": stream,
        "return_num_input_tokens": stream,
        "return_num_output_tokens": stream,
        "return_finish_reason": stream and n > 1,
        "return_logprobs": logprobs,
    }
    return {name: True for name, value in wanted.items() if value}
