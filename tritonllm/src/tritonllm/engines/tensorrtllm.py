"""Engine type `tensorrtllm`: TensorRT-LLM's LLM API with its PyTorch backend, which loads checkpoints of the Hub."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from tritonllm.engines.base import DEFAULT_MAX_NUM_SEQS, Args, Arguments, EngineType, Package


class KvCacheConfig(Arguments):
    """TensorRT-LLM's `KvCacheConfig`."""

    free_gpu_memory_fraction: float | None = pydantic.Field(default=None, ge=0, le=1)
    max_tokens: int | None = pydantic.Field(default=None, ge=1)
    enable_block_reuse: bool | None = None
    enable_partial_reuse: bool | None = None
    host_cache_size: int | None = pydantic.Field(default=None, ge=0)
    tokens_per_block: int | None = pydantic.Field(default=None, ge=1)
    dtype: str | None = None


class TensorRTLLMArgs(Arguments):
    """`spec.engine.args` of engine type `tensorrtllm`: arguments of TensorRT-LLM's `LLM`, by their names there.

    https://nvidia.github.io/TensorRT-LLM/llm-api/reference.html
    """

    tensor_parallel_size: int = pydantic.Field(
        default=1, ge=1, description="Number of GPUs that share each layer."
    )
    pipeline_parallel_size: int = pydantic.Field(
        default=1, ge=1, description="Number of groups of GPUs that share the layers."
    )
    moe_expert_parallel_size: int | None = pydantic.Field(
        default=None, ge=1, description="Number of the GPUs of a group that share the experts."
    )
    enable_attention_dp: bool = pydantic.Field(
        default=False, description="Share requests instead of the layers of attention."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = pydantic.Field(
        default="auto", description="Data type of the weights. auto: as in the model's `config.json`."
    )
    load_format: Literal["auto", "dummy"] = pydantic.Field(
        default="auto", description="dummy: random weights, without reading any."
    )
    max_batch_size: int = pydantic.Field(
        default=DEFAULT_MAX_NUM_SEQS, ge=1, description="Maximum number of sequences processed at once."
    )
    max_num_tokens: int | None = pydantic.Field(
        default=None, ge=1, description="Maximum number of tokens in a step (default: TensorRT-LLM's)."
    )
    max_seq_len: int | None = pydantic.Field(
        default=None,
        ge=1,
        description="Maximum number of tokens of prompt and answer together; the default is that of the model.",
    )
    kv_cache_config: KvCacheConfig | None = pydantic.Field(
        default=None,
        description="`free_gpu_memory_fraction` (of what the weights leave free), `max_tokens`, `enable_block_reuse`,"
        " `enable_partial_reuse`, `host_cache_size` in bytes, `tokens_per_block` and `dtype`.",
    )
    enable_chunked_prefill: bool = pydantic.Field(
        default=False, description="Process long prompts in parts, between the steps of others."
    )
    attn_backend: Literal["TRTLLM", "FLASHINFER", "VANILLA"] | None = pydantic.Field(
        default=None, description="Implementation of attention (default: TensorRT-LLM's)."
    )
    disable_overlap_scheduler: bool = pydantic.Field(
        default=False, description="Schedule a step only when the one before has ended."
    )
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = pydantic.Field(
        default=None, description="Library for structured outputs; without it, they are refused."
    )
    stream_interval: int = pydantic.Field(
        default=1, ge=1, description="Number of tokens between two updates of a stream."
    )


class TensorRTLLM(EngineType):
    """See the module."""

    name = "tensorrtllm"
    description = "`tensorrtllm` generates text with TensorRT-LLM."
    label = "TensorRT-LLM"
    backend = "tritonllm.runtime.tensorrtllm_engine:TensorRTLLMBackend"
    package = Package(
        "tensorrt_llm",
        "TensorRT-LLM is not installed; use an image of NVIDIA that has it, `pip install tensorrt-llm`, or engine type vllm",
    )
    arguments = TensorRTLLMArgs
    parallel_sizes = ("tensor_parallel_size", "pipeline_parallel_size")

    def max_num_seqs(self, args: Args) -> int:
        """See `EngineType.max_num_seqs`: `max_batch_size`."""
        value = args.get("max_batch_size")
        return value if isinstance(value, int) else DEFAULT_MAX_NUM_SEQS

    def context(self, args: Args) -> int | None:
        """See `EngineType.context`: `max_seq_len`."""
        value = args.get("max_seq_len")
        return value if isinstance(value, int) else None

    def gpus(self, args: Args) -> int:
        """See `EngineType.gpus`."""
        sizes = [args.get(name, 1) for name in self.parallel_sizes]
        return math.prod(size for size in sizes if isinstance(size, int))

    def loads_weights(self, args: Args) -> bool:
        """See `EngineType.loads_weights`."""
        return args.get("load_format") != "dummy"

    def hashed(self, args: Args) -> dict[str, Any]:
        """See `EngineType.hashed`: what differs from the defaults."""
        return TensorRTLLMArgs.model_validate(args).model_dump(mode="json", exclude_defaults=True)

    def model_json(self, args: Args, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """See `EngineType.model_json`: with the prompt format, for the engine to try the chat template when it loads."""
        made = {"max_batch_size": self.max_num_seqs(args), **args}
        return made | {"prompt": dict(prompt)} if prompt.get("format") == "Chat" else made


TENSORRTLLM = TensorRTLLM()
