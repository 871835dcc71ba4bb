"""Which engine arguments any endpoint author may use, and which only the pool's owner can permit. Pure.

An argument is listed if its values can only change speed, memory, parallelism, precision or parsing. Everything else
needs `allow.engineArgs`: vLLM has arguments that open sockets, import classes by name, or read and write files, and new
versions bring more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

EVERYTHING = "*"
"""Entry of `allow.engineArgs` that permits every argument."""

PERMITTED: dict[str, tuple[str, ...]] = {
    "performance": (
        "async_scheduling",
        "attention_backend",
        "attention_config",
        "cudagraph_capture_sizes",
        "disable_cascade_attn",
        "disable_custom_all_reduce",
        "enable_chunked_prefill",
        "enable_flashinfer_autotune",
        "enable_prefix_caching",
        "enforce_eager",
        "linear_backend",
        "long_prefill_token_threshold",
        "max_cudagraph_capture_size",
        "max_long_partial_prefills",
        "max_num_batched_tokens",
        "max_num_partial_prefills",
        "max_num_scheduled_tokens",
        "max_num_seqs",
        "moe_backend",
        "optimization_level",
        "performance_mode",
        "prefix_caching_hash_algo",
        "scheduling_policy",
        "seed",
        "stream_interval",
        "use_tqdm_on_load",
    ),
    "memory": (
        "block_size",
        "cpu_offload_gb",
        "disable_hybrid_kv_cache_manager",
        "disable_sliding_window",
        "enable_lora",
        "fully_sharded_loras",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "kv_cache_dtype_skip_layers",
        "kv_cache_memory_bytes",
        "kv_offloading_backend",
        "kv_offloading_size",
        "kv_sharing_fast_prefill",
        "language_model_only",
        "limit_mm_per_prompt",
        "lora_dtype",
        "mamba_block_size",
        "mamba_cache_dtype",
        "mamba_cache_mode",
        "mamba_ssm_cache_dtype",
        "max_cpu_loras",
        "max_lora_rank",
        "max_loras",
        "max_model_len",
        "max_parallel_loading_workers",
        "mm_processor_cache_gb",
        "num_gpu_blocks_override",
        "safetensors_load_strategy",
        "skip_mm_profiling",
        "watermark",
    ),
    "parallelism": (
        "data_parallel_size",
        "decode_context_parallel_size",
        "device_ids",
        "distributed_executor_backend",
        "enable_expert_parallel",
        "mm_encoder_tp_mode",
        "numa_bind",
        "numa_bind_cpus",
        "numa_bind_nodes",
        "pipeline_parallel_size",
        "prefill_context_parallel_size",
        "tensor_parallel_size",
    ),
    "model and precision": (
        "config_format",
        "dtype",
        "generation_config",
        "load_format",
        "logprobs_mode",
        "max_logprobs",
        "model_impl",
        "quantization",
        "runner",
        "tokenizer_mode",
    ),
    "parsers": ("chat_template", "reasoning_parser", "tool_call_parser"),
}
"""Arguments that need no permission, by what they concern."""

VALUES: dict[str, tuple[str | None, ...]] = {
    # Others import a loader, deserialize what is no safetensors, or read from a URL.
    "load_format": ("auto", "dummy", "mistral", "safetensors"),
    # Others are names of classes, or a cluster of Ray.
    "distributed_executor_backend": (None, "mp", "uni"),
    # Others are registered by plugins.
    "config_format": ("auto", "hf", "mistral"),
    "tokenizer_mode": ("auto", "hf", "mistral", "slow"),
    "model_impl": ("auto", "transformers", "vllm"),
    # Another value is a path.
    "generation_config": ("auto", "vllm"),
    # LMCache connects to servers.
    "kv_offloading_backend": ("native",),
}
"""The values of an argument that need no permission, where not all do."""

_NAMES = frozenset(name for names in PERMITTED.values() for name in names)


def needs_permission(name: str, value: Any, permitted: Collection[str]) -> str | None:
    """Checks one argument of a vLLM engine.

    Args:
        name: of the argument.
        value: from the endpoint.
        permitted: the pool's `allow.engineArgs`.

    Returns:
        What is not permitted, such as `the argument worker_cls`; None if it is.
    """
    # Set from `spec.model`, which has a permission of its own.
    if EVERYTHING in permitted or name in permitted or name == "trust_remote_code":
        return None
    if name not in _NAMES:
        return f"the argument `{name}`"
    if name in VALUES and value not in VALUES[name]:
        return f"this value of `{name}`; without permission it can be {_any_of(VALUES[name])}"
    # A file could be any of the server's, such as a secret, whose text the model would then repeat.
    if name == "chat_template" and isinstance(value, str) and value.startswith("/"):
        return "a chat template from a file; give its text"
    return None


def _any_of(values: tuple[str | None, ...]) -> str:
    words = [value for value in values if value is not None]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
