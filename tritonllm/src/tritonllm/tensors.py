"""The tensors of an endpoint's models, for their configurations, the runtime and the clients.

The engine's tensors are those of Triton's official vLLM backend (`src/model.py` of
triton-inference-server/vllm_backend) plus those of conversations; the pipeline adds `guardrail`. Only guardrails and
classifiers have a batch dimension.
"""

from __future__ import annotations

from typing import NamedTuple


class Tensor(NamedTuple):
    """One input or output.

    Attributes:
        name: name on the wire.
        type: Triton data type without its `TYPE_` prefix.
        dims: shape without batch dimension; -1 is one entry per choice (`n` of the sampling parameters).
        optional: whether an input can be omitted.
    """

    name: str
    type: str
    dims: tuple[int, ...] = (1,)
    optional: bool = True


FLAGS = (
    "stream",
    "exclude_input_in_output",
    "return_finish_reason",
    "return_cumulative_logprob",
    "return_logprobs",
    "return_num_input_tokens",
    "return_num_output_tokens",
)

GENERATE_INPUTS = (
    Tensor("text_input", "STRING"),
    Tensor("messages", "STRING"),
    Tensor("chat_options", "STRING"),
    Tensor("sampling_parameters", "STRING"),
    *(Tensor(flag, "BOOL") for flag in FLAGS),
)

ENGINE_OUTPUTS = (
    Tensor("text_output", "STRING", (-1,)),
    Tensor("reasoning_output", "STRING", (-1,)),
    Tensor("tool_calls", "STRING", (-1,)),
    Tensor("finish_reason", "STRING", (-1,)),
    Tensor("cumulative_logprob", "FP32", (-1,)),
    Tensor("logprobs", "STRING", (-1,)),
    Tensor("num_input_tokens", "UINT32"),
    Tensor("num_output_tokens", "UINT32", (-1,)),
)

PIPELINE_OUTPUTS = (*ENGINE_OUTPUTS, Tensor("guardrail", "STRING"))

GUARDRAIL_INPUTS = (Tensor("text_input", "STRING", optional=False), Tensor("direction", "STRING"))
GUARDRAIL_OUTPUTS = (
    Tensor("text_output", "STRING"),
    Tensor("blocked", "BOOL"),
    Tensor("guardrail", "STRING"),
)
GUARDRAIL_MAX_BATCH = 64

CLASSIFIER_INPUTS = (Tensor("text", "STRING", optional=False),)
# One element per label.
CLASSIFIER_OUTPUTS = (Tensor("label", "STRING", (-1,)), Tensor("score", "FP32", (-1,)))
