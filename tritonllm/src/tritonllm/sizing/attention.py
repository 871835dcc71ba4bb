"""What a model's KV cache takes: bytes of a token in each decoder layer, by the attention of the layer. Pure.

The sizes are those of vLLM's `AttentionSpec.page_size_bytes` and `MLAAttentionSpec.page_size_bytes`
(vllm/v1/kv_cache_interface.py): keys and values of each KV head, or one latent vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Families whose layers all have the attention that this module computes. Others are unknown: a state space layer, a
# cache that layers share, or heads that differ from layer to layer would be counted wrong.
_FAMILIES = {
    "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "gemma", "gemma2", "gemma3", "gemma3_text", "glm4",
    "glm4_moe", "gpt_oss", "granite", "kimi_k2", "llama", "mistral", "mistral3", "mixtral", "olmo2", "phi",
    "phi3", "qwen2", "qwen2_5_vl", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_moe", "smollm3", "stablelm",
    "starcoder2"
}  # fmt: skip
# Families that alternate without saying so in `layer_types`: each so many layers, one has full attention.
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2}
# Keys of `config.json` with which caches differ from those computed here.
_UNKNOWN_KEYS = (
    "compress_ratios",
    "index_topk",
    "num_kv_shared_layers",
    "block_configs",
    "attn_layer_indices",
)
_CACHE_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}


@dataclass(frozen=True)
class Attention:
    """The attention of a model.

    Attributes:
        full_layers: layers that keep all tokens.
        window_layers: layers that keep the last `window` tokens.
        window: of these, in tokens; 0 without any.
        kv_heads: of a layer.
        head_size: elements of a key, and of a value.
        latent_size: elements of the one vector that a token takes with multi-head latent attention; 0 for the others.
    """

    full_layers: int
    window_layers: int
    window: int
    kv_heads: int
    head_size: int
    latent_size: int = 0

    @property
    def layers(self) -> int:
        """Number of all layers."""
        return self.full_layers + self.window_layers

    def layer_bytes(self, element_bytes: int, tensor_parallel: int = 1) -> int:
        """Bytes of a token in one layer, on one GPU.

        Args:
            element_bytes: of an element of the cache.
            tensor_parallel: GPUs that share the heads. Each has at least one, and each has the latent vector.
        """
        if self.latent_size:
            return self.latent_size * element_bytes
        return 2 * max(1, self.kv_heads // tensor_parallel) * self.head_size * element_bytes


def read(config: Mapping[str, Any]) -> Attention | str:
    """The attention of a model.

    Args:
        config: of the language model: `config.json`, or its `text_config`.

    Returns:
        The attention, or why it is unknown.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        return (
            f"the KV cache of model type {family} is unknown" if family else "config.json has no model_type"
        )
    odd = next((key for key in _UNKNOWN_KEYS if config.get(key)), None)
    if odd:
        return f"the KV cache of a model with {odd} is unknown"
    layers, heads = _int(config, "num_hidden_layers"), _int(config, "num_attention_heads")
    if layers is None or heads is None:
        name = "num_hidden_layers" if layers is None else "num_attention_heads"
        return f"config.json does not say {name}"
    latent = _int(config, "kv_lora_rank")
    if latent:
        rope = _int(config, "qk_rope_head_dim")
        if rope is None:
            return "config.json does not say qk_rope_head_dim"
        return Attention(layers, 0, 0, 1, 0, latent + rope)
    head_size = _int(config, "head_dim")
    if head_size is None:
        hidden = _int(config, "hidden_size")
        if hidden is None or family in ("gemma2", "gemma3_text"):
            return "config.json does not say head_dim"
        head_size = hidden // heads
    windowed = _window_layers(config, layers)
    if isinstance(windowed, str):
        return windowed
    window = _int(config, "sliding_window") or 0
    return Attention(
        layers - windowed,
        windowed,
        window if windowed else 0,
        _int(config, "num_key_value_heads") or heads,
        head_size,
    )


def cache_bytes(kv_cache_dtype: str | None, dtype: str) -> int | None:
    """Bytes of an element of the KV cache; None for a kind whose size is not known here.

    Args:
        kv_cache_dtype: `engine.args.kv_cache_dtype`.
        dtype: that the model computes in, which `auto` means.
    """
    if kv_cache_dtype in (None, "auto"):
        return _CACHE_BYTES.get(dtype)
    if kv_cache_dtype in ("fp8", "fp8_e4m3", "fp8_e5m2"):
        return 1
    return _CACHE_BYTES.get(kv_cache_dtype)


def _window_layers(config: Mapping[str, Any], layers: int) -> int | str:
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        unknown = next((kind for kind in kinds if kind not in ("full_attention", "sliding_attention")), None)
        if unknown is not None:
            return f"the KV cache of layers of type {unknown} is unknown"
        sliding = kinds[:layers].count("sliding_attention")
        return sliding if _int(config, "sliding_window") else 0
    if not _int(config, "sliding_window") or config.get("use_sliding_window") is False:
        return 0
    family = str(config.get("model_type"))
    if family.startswith("qwen"):
        return f"config.json of {family} does not say which layers have the window"
    every = _int(config, "sliding_window_pattern") or _PATTERNS.get(family)
    return layers - layers // every if every else layers


def _int(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
