"""Compares a model with the memory of GPUs: what is left for the KV cache, and how many requests that is. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonllm.engines import DEFAULT_MAX_NUM_SEQS
from tritonllm.sizing import attention
from tritonllm.sizing.checkpoint import Checkpoint

GIB = 1 << 30
DEFAULT_SHARE = 0.9
"""vLLM's default of `gpu_memory_utilization`, where no table of a version says another."""

# An assumption, not a measurement: what CUDA's context, NCCL's buffers, kernels' workspaces and CUDA graphs take.
# vLLM measures all of it when it starts: https://docs.vllm.ai/en/latest/configuration/conserving_memory/
_FIXED_RESERVE = 2 * GIB
# Tokens of a batch by default: `SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS` of vllm/config/scheduler.py.
_BATCH = 2048
# Tried for the advice what would fit.
_SMALLEST_CONTEXT = 1024


@dataclass(frozen=True)
class Settings:
    """The engine arguments that memory depends on; the names and defaults are vLLM's.

    Attributes:
        window_cache: whether layers with a sliding window keep the tokens of the window only.
    """

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    share: float = DEFAULT_SHARE
    max_model_len: int | None = None
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    max_num_batched_tokens: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    window_cache: bool = True

    @property
    def gpus(self) -> int:
        """GPUs of one copy of the model."""
        return self.tensor_parallel * self.pipeline_parallel

    @classmethod
    def of(cls, args: Mapping[str, Any], share: float | None = None) -> Settings:
        """The settings of `spec.engine.args` of a vLLM engine.

        Args:
            args: that passed validation.
            share: of each GPU's memory that the engine takes; None for `DEFAULT_SHARE`.
        """
        length = args.get("max_model_len")
        return cls(
            tensor_parallel=args.get("tensor_parallel_size", 1),
            pipeline_parallel=args.get("pipeline_parallel_size", 1),
            share=share or DEFAULT_SHARE,
            max_model_len=length if isinstance(length, int) and length > 0 else None,
            max_num_seqs=args.get("max_num_seqs") or DEFAULT_MAX_NUM_SEQS,
            max_num_batched_tokens=args.get("max_num_batched_tokens"),
            dtype=args.get("dtype"),
            quantization=args.get("quantization"),
            kv_cache_dtype=args.get("kv_cache_dtype"),
        )


@dataclass(frozen=True)
class Fit:
    """How a model fits one GPU of those that share it; sizes are bytes on that GPU.

    Attributes:
        settings: of the engine.
        gpu_bytes: memory of the GPU.
        length: tokens of a request, prompt and answer together; None where it is unknown.
        weights: None where they are unknown.
        reserve: assumed for activations and CUDA graphs.
        token: of the KV cache, for each token while no window ends; None where it is unknown.
        request: of the KV cache, for one request of `length`; None where it is unknown.
        unknown: why something is unknown; empty where nothing is.
    """

    settings: Settings
    gpu_bytes: int
    length: int | None
    weights: float | None
    reserve: float
    token: int | None
    request: int | None
    unknown: str = ""

    @property
    def budget(self) -> float:
        """What the engine takes of the GPU."""
        return self.gpu_bytes * self.settings.share

    @property
    def cache(self) -> float | None:
        """What is left for the KV cache; negative where the weights do not fit."""
        return None if self.weights is None else self.budget - self.weights - self.reserve

    @property
    def requests(self) -> int | None:
        """Requests of `length` at once; None where it is unknown."""
        if self.cache is None or not self.request:
            return None
        return max(0, int(self.cache // self.request))

    @property
    def fits(self) -> bool | None:
        """Whether at least one request fits; None where it is unknown."""
        if self.weights is not None and self.weights >= self.budget:
            return False
        return None if self.requests is None else self.requests > 0


def fit(model: Checkpoint, settings: Settings, gpu_bytes: int) -> Fit:
    """Compares a model with GPUs.

    Args:
        model: its files.
        settings: of the engine.
        gpu_bytes: memory of each GPU.
    """
    reasons: list[str] = []
    loaded = model.loaded_bytes(settings.dtype, settings.quantization)
    if loaded is None:
        reasons.append("the size of the weights is unknown: " + _why(model, settings))
    layers = math.ceil((model.layers or 1) / settings.pipeline_parallel) / (model.layers or 1)
    weights = loaded and (loaded.in_layers * layers + loaded.outside) / settings.tensor_parallel
    read = attention.read(model.text_config)
    element = attention.cache_bytes(settings.kv_cache_dtype, model.dtype(settings.dtype))
    length = settings.max_model_len or model.context
    token = request = None
    if isinstance(read, str):
        reasons.append(read)
    elif element is None:
        reasons.append(f"the size of kv_cache_dtype {settings.kv_cache_dtype} is unknown")
    else:
        layer = read.layer_bytes(element, settings.tensor_parallel)
        token = math.ceil(read.layers / settings.pipeline_parallel) * layer
        if length is None:
            reasons.append("config.json does not say max_position_embeddings, and max_model_len is not set")
        else:
            # As vLLM's SlidingWindowSpec: the window, and the tokens of a batch on top of it.
            window = read.window - 1 + _batch(settings) if settings.window_cache else length
            held = min(length, window) if read.window else 0
            of_layers = read.full_layers * length + read.window_layers * held
            request = math.ceil(of_layers / settings.pipeline_parallel) * layer
    return Fit(
        settings,
        gpu_bytes,
        length,
        weights,
        _reserve(model, settings),
        token,
        request,
        "; ".join(reasons),
    )


def _why(model: Checkpoint, settings: Settings) -> str:
    if not model.tensors:
        return "there are no safetensors"
    if model.quantization is None and settings.quantization not in (None, "fp8"):
        return f"quantization {settings.quantization} changes it when they are loaded"
    return "a dtype is not known"


def _batch(settings: Settings) -> int:
    return settings.max_num_batched_tokens or _BATCH


def _reserve(model: Checkpoint, settings: Settings) -> float:
    """An assumption: one layer's activations of a whole batch in 16 bits, and twice the float32 logits of all sequences.

    These are what vLLM's profile run computes before it measures (`profile_run` of vllm/v1/worker/gpu_model_runner.py).
    """
    config = model.text_config
    hidden, inner, vocabulary = (
        value if isinstance(value := config.get(name), int) else 0
        for name in ("hidden_size", "intermediate_size", "vocab_size")
    )
    activations = _batch(settings) * (4 * hidden + 3 * inner / settings.tensor_parallel) * 2
    return _FIXED_RESERVE + activations + settings.max_num_seqs * vocabulary * 4 * 2


def sentence(found: Fit) -> str:
    """The result in words, such as `fits 26 concurrent requests of 8192 tokens on 1 × 80 GiB: …`."""
    where = f"{found.settings.gpus} × {gib(found.gpu_bytes)}"
    if found.fits is None:
        return f"whether it fits {where} is unknown: {found.unknown}; {parts(found)}"
    if not found.fits:
        return f"does not fit {where}: {parts(found)}"
    return f"fits {found.requests} concurrent requests of {found.length} tokens on {where}: {parts(found)}"


def parts(found: Fit) -> str:
    """The sizes on each GPU, in words."""
    known = [f"each GPU gives {gib(found.budget)} (gpu_memory_utilization {found.settings.share:g})"]
    known.append("weights unknown" if found.weights is None else f"weights {gib(found.weights)}")
    known.append(f"activations and CUDA graphs {gib(found.reserve)} (assumed)")
    if found.token is not None and found.cache is not None:
        left = f"{gib(found.cache)} left" if found.cache > 0 else "nothing left"
        known.append(f"KV cache {left}, {found.token / 1024:g} KiB for a token")
    elif found.token is not None:
        known.append(f"KV cache {found.token / 1024:g} KiB for a token")
    return ", ".join(known)


def advice(model: Checkpoint, found: Fit) -> list[str]:
    """What would fit where the model does not: one change each, the smallest first."""
    if found.fits is not False:
        return []
    changes: list[str] = []
    if found.cache is not None and found.cache > 0 and found.length:
        shorter = longest(model, found.settings, found.gpu_bytes)
        if shorter:
            changes.append(f"max_model_len {shorter}")
    if model.quantization is None and found.settings.quantization is None:
        smaller = dataclasses.replace(found.settings, quantization="fp8")
        if fit(model, smaller, found.gpu_bytes).fits:
            changes.append("quantization fp8")
    more = next((size for size in (2, 4, 8) if _would(model, found, size)), None)
    if more:
        changes.append(f"tensor_parallel_size {more}")
    return changes


def _would(model: Checkpoint, found: Fit, size: int) -> bool:
    if size <= found.settings.tensor_parallel or not divides(model, size):
        return False
    return bool(fit(model, dataclasses.replace(found.settings, tensor_parallel=size), found.gpu_bytes).fits)


def divides(model: Checkpoint, tensor_parallel: int) -> bool:
    """Whether vLLM can share the model's attention heads among so many GPUs."""
    heads = model.text_config.get("num_attention_heads")
    return isinstance(heads, int) and heads % tensor_parallel == 0


def longest(model: Checkpoint, settings: Settings, gpu_bytes: int, requests: int = 1) -> int | None:
    """The largest power of two, or the model's own context, of which so many requests fit; None if none does."""
    context = model.context
    if context is None:
        return None
    lengths = [context]
    lengths += [
        1 << bit for bit in range(context.bit_length(), 0, -1) if _SMALLEST_CONTEXT <= 1 << bit < context
    ]
    for length in lengths:
        found = fit(model, dataclasses.replace(settings, max_model_len=length), gpu_bytes)
        if (found.requests or 0) >= requests:
            return length
    return None


def gib(size: float) -> str:
    """A size as people write it: `15.3 GiB`."""
    return f"{size / GIB:.1f}".removesuffix(".0") + " GiB"
