"""Bytes of the KV cache: computed from config.json, and compared with vLLM's own code."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import model_configs
import pytest

from tritonllm.sizing import attention


def _read(config: dict[str, Any], **changes: Any) -> attention.Attention:
    found = attention.read(config | changes)
    assert isinstance(found, attention.Attention), found
    return found


def test_a_token_of_a_70b_llama_takes_320_kib_in_16_bits_and_half_in_fp8() -> None:
    llama = _read(model_configs.LLAMA_70B)
    assert llama.layers * llama.layer_bytes(2) == 320 * 1024
    assert llama.layers * llama.layer_bytes(attention.cache_bytes("fp8", "bfloat16") or 0) == 160 * 1024


def test_more_gpus_than_kv_heads_share_no_further() -> None:
    llama = _read(model_configs.LLAMA_70B)
    assert [llama.layer_bytes(2, size) for size in (1, 4, 8, 16)] == [4096, 1024, 512, 512]


def test_multi_head_latent_attention_keeps_one_vector_on_every_gpu() -> None:
    deepseek = _read(model_configs.DEEPSEEK_V3)
    assert deepseek.layer_bytes(2, 1) == deepseek.layer_bytes(2, 8) == (512 + 64) * 2


def test_layers_with_a_window_are_told_from_the_others() -> None:
    assert _read(model_configs.MISTRAL_7B_V01).window_layers == 32
    assert _read(model_configs.GEMMA2_9B).window_layers == 21
    assert _read(model_configs.QWEN3_8B).window_layers == 0
    kinds = ["sliding_attention"] * 3 + ["full_attention"]
    assert (
        _read(
            model_configs.QWEN3_8B, sliding_window=128, num_hidden_layers=4, layer_types=kinds
        ).window_layers
        == 3
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "jamba"}, "model type jamba is unknown"),
        ({"layer_types": ["linear_attention"] * 36}, "linear_attention is unknown"),
        ({"num_kv_shared_layers": 10}, "num_kv_shared_layers is unknown"),
        ({"num_attention_heads": None}, "does not say num_attention_heads"),
        ({"sliding_window": 4096, "use_sliding_window": True}, "which layers have the window"),
    ],
)
def test_what_is_not_known_is_not_guessed(changes: dict[str, Any], said: str) -> None:
    found = attention.read(model_configs.QWEN3_8B | changes)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.timeout(120)
def test_sizes_are_those_of_vllm_itself(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    import torch
    import transformers
    import vllm.config
    from vllm.transformers_utils import model_arch_config_convertor as convertors
    from vllm.v1 import kv_cache_interface

    for family, config in model_configs.ALL.items():
        (tmp_path / "config.json").write_text(json.dumps(config))
        loaded = transformers.AutoConfig.from_pretrained(tmp_path)
        arch = convertors.ModelArchConfigConvertorBase(loaded, loaded).convert()
        kind = (
            kv_cache_interface.MLAAttentionSpec
            if arch.is_deepseek_mla
            else kv_cache_interface.FullAttentionSpec
        )
        ours = _read(config)
        for tensor_parallel in (1, 8):
            # A real ModelConfig starts a process for each family, and a real ParallelConfig wants that many GPUs.
            model: Any = types.SimpleNamespace(use_mla=arch.is_deepseek_mla, model_arch_config=arch)
            parallel: Any = types.SimpleNamespace(tensor_parallel_size=tensor_parallel)
            spec = kind(
                block_size=16,
                num_kv_heads=vllm.config.ModelConfig.get_num_kv_heads(model, parallel),
                head_size=arch.head_size,
                dtype=torch.bfloat16,
            )
            assert ours.layer_bytes(2, tensor_parallel) * 16 == spec.page_size_bytes, family
        assert ours.layers == arch.total_num_hidden_layers, family
        assert ours.window == (getattr(loaded, "sliding_window", None) or 0), family
