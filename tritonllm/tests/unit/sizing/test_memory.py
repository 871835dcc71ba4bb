"""Whether models fit GPUs, in numbers and in words."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import model_configs
import pytest

from tritonllm.sizing import checkpoint, directory, memory

GIB = memory.GIB


def _model(config: dict[str, Any], dtype: str = "BF16", **changes: Any) -> checkpoint.Checkpoint:
    header = json.dumps(model_configs.tensors(config, dtype)).encode()
    return checkpoint.Checkpoint(config | changes, tuple(checkpoint.tensors(header)))


LLAMA = _model(model_configs.LLAMA_70B)
QWEN = _model(model_configs.QWEN3_8B)


def _fit(model: checkpoint.Checkpoint, gib: int = 80, **settings: Any) -> memory.Fit:
    return memory.fit(model, memory.Settings(**settings), gib * GIB)


def test_weights_are_counted_from_the_headers() -> None:
    loaded = LLAMA.loaded_bytes()
    assert loaded is not None
    # 70.6 billion parameters of two bytes, as its model card says.
    assert loaded.total == pytest.approx(70.55e9 * 2, rel=0.001)
    assert loaded.outside == 2 * 128256 * 8192 * 2


def test_float32_is_loaded_in_16_bits_unless_float32_is_asked_for() -> None:
    stored = _model(model_configs.QWEN3_8B, "F32", torch_dtype="float32")
    half, whole = stored.loaded_bytes(), stored.loaded_bytes("float32")
    assert half is not None
    assert whole is not None
    assert half == QWEN.loaded_bytes()
    assert whole.total == 2 * half.total


def test_tied_embeddings_and_layers_for_several_tokens_are_not_counted() -> None:
    tied = dataclasses.replace(QWEN, config=dict(QWEN.config) | {"tie_word_embeddings": True}).loaded_bytes()
    shorter = dataclasses.replace(QWEN, config=dict(QWEN.config) | {"num_hidden_layers": 35}).loaded_bytes()
    whole = QWEN.loaded_bytes()
    assert tied
    assert shorter
    assert whole
    assert whole.outside - tied.outside == 151936 * 4096 * 2
    assert shorter.in_layers == whole.in_layers * 35 / 36


def test_a_quantized_checkpoint_takes_what_its_files_take() -> None:
    quantized = _model(model_configs.QWEN3_8B, "I32", quantization_config={"quant_method": "gptq"})
    loaded = quantized.loaded_bytes()
    assert loaded is not None
    assert loaded.total == sum(tensor.stored_bytes for tensor in quantized.tensors)
    assert quantized.quantization == "gptq"


def test_fp8_at_load_time_leaves_embeddings_as_they_are() -> None:
    whole, smaller = QWEN.loaded_bytes(), QWEN.loaded_bytes(quantization="fp8")
    assert whole
    assert smaller
    assert smaller.outside == whole.outside
    assert smaller.in_layers == pytest.approx(whole.in_layers / 2, rel=0.001)
    assert QWEN.loaded_bytes(quantization="bitsandbytes") is None


def test_the_parts_add_up_to_what_the_engine_takes() -> None:
    found = _fit(QWEN, max_model_len=8192)
    assert found.weights is not None
    assert found.cache is not None
    assert found.request is not None
    assert found.weights + found.reserve + found.cache == pytest.approx(0.9 * 80 * GIB)
    assert found.request == 8192 * 36 * 2 * 8 * 128 * 2
    assert found.requests == int(found.cache // found.request)


def test_the_result_is_a_sentence() -> None:
    said = memory.sentence(_fit(QWEN, max_model_len=8192))
    assert said.startswith("fits 48 concurrent requests of 8192 tokens on 1 × 80 GiB: each GPU gives 72 GiB")
    assert "weights 15.3 GiB" in said
    assert "144 KiB for a token" in said
    assert "(assumed)" in said


def test_what_does_not_fit_says_what_would() -> None:
    found = _fit(LLAMA, max_model_len=8192)
    assert found.fits is False
    assert memory.sentence(found).startswith("does not fit 1 × 80 GiB")
    assert memory.advice(LLAMA, found) == ["tensor_parallel_size 2"]
    assert _fit(LLAMA, max_model_len=8192, tensor_parallel=2).fits


def test_a_context_too_long_for_the_rest_is_told_from_weights_that_do_not_fit() -> None:
    found = _fit(QWEN, gib=24, max_model_len=40960)
    assert found.fits is False
    assert memory.advice(QWEN, found) == ["max_model_len 16384", "quantization fp8", "tensor_parallel_size 2"]


def test_pipeline_stages_share_layers_and_tensor_parallel_shares_everything() -> None:
    whole, loaded = _fit(LLAMA), LLAMA.loaded_bytes()
    staged, shared = _fit(LLAMA, pipeline_parallel=4), _fit(LLAMA, tensor_parallel=4)
    assert loaded
    assert whole.token
    assert staged.token
    assert shared.token
    assert staged.weights == loaded.in_layers / 4 + loaded.outside
    assert shared.weights == loaded.total / 4
    assert staged.token == shared.token == whole.token / 4


def test_a_window_bounds_what_a_long_request_keeps() -> None:
    short = _fit(_model(model_configs.MISTRAL_7B_V01), max_model_len=6143)
    long = _fit(_model(model_configs.MISTRAL_7B_V01), max_model_len=32768)
    assert short.request == long.request


def test_without_a_window_cache_a_request_keeps_all_its_tokens() -> None:
    mistral = _model(model_configs.MISTRAL_7B_V01)
    found = _fit(mistral, max_model_len=32768, window_cache=False)
    assert found.token
    assert found.request == 32768 * found.token


def test_unknown_is_said_with_its_reason() -> None:
    found = _fit(_model(model_configs.QWEN3_8B, model_type="jamba"))
    assert found.fits is None
    assert "unknown: the KV cache of model type jamba is unknown" in memory.sentence(found)
    assert "there are no safetensors" in memory.sentence(_fit(checkpoint.Checkpoint(model_configs.QWEN3_8B)))


def test_weights_that_do_not_fit_are_known_even_where_the_cache_is_not() -> None:
    assert _fit(_model(model_configs.LLAMA_70B, model_type="jamba")).fits is False


def test_settings_are_those_of_the_engine_arguments() -> None:
    args = {"tensor_parallel_size": 4, "max_model_len": 4096, "max_num_seqs": 8, "kv_cache_dtype": "fp8"}
    found = memory.Settings.of(args, 0.8)
    assert (found.gpus, found.max_model_len, found.max_num_seqs, found.share) == (4, 4096, 8, 0.8)


def test_a_directory_is_read_without_its_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(model_configs.QWEN3_8B))
    header = json.dumps(model_configs.tensors(model_configs.QWEN3_8B)).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert directory.read(tmp_path).loaded_bytes() == QWEN.loaded_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"short", "shorter than the length"),
        (b"\xff" * 20, "no safetensors header"),
        (struct.pack("<Q", 50) + b"{}", "ends within"),
        (struct.pack("<Q", 2) + b"[]", "can't be read"),
    ],
)
def test_a_broken_file_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.safetensors .*{said}"):
        directory.read(tmp_path)
