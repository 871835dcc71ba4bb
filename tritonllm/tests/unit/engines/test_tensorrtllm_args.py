"""What an endpoint's author is told about the arguments of TensorRT-LLM, and what the platform reads from them."""

from __future__ import annotations

from typing import Any

import pytest

from tritonllm import api, render
from tritonllm.engines import tensorrtllm

ENGINE = tensorrtllm.TENSORRTLLM


def problems(**args: Any) -> dict[str, str]:
    return {path.removeprefix("spec.engine.args."): message for path, message in ENGINE.check(args)}


def test_usual_arguments_are_right() -> None:
    usual = {
        "tensor_parallel_size": 4,
        "max_batch_size": 64,
        "max_seq_len": 8192,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.85, "enable_block_reuse": True},
        "guided_decoding_backend": "xgrammar",
    }
    assert problems(**usual) == {}


@pytest.mark.parametrize(
    ("args", "path", "message"),
    [
        ({"max_num_seqs": 8}, "max_num_seqs", "TensorRT-LLM has no argument `max_num_seqs`"),
        ({"max_sequence_len": 8}, "max_sequence_len", "did you mean `max_seq_len`?"),
        ({"max_batch_size": 0}, "max_batch_size", "must be at least 1"),
        ({"load_format": "pickle"}, "load_format", "must be one of `auto`, `dummy`"),
        (
            {"kv_cache_config": {"free_gpu_memory_fraction": 2.0}},
            "kv_cache_config.free_gpu_memory_fraction",
            "must be at most 1",
        ),
        ({"kv_cache_config": {"free_gpu": 0.5}}, "kv_cache_config.free_gpu", "unknown field `free_gpu`"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_right(
    args: dict[str, Any], path: str, message: str
) -> None:
    assert message in problems(**args)[path]


def test_the_platform_knows_its_batch_its_context_and_its_gpus() -> None:
    args = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "max_batch_size": 8, "max_seq_len": 64}
    engine = api.Engine(type="tensorrtllm", args=args)
    assert (engine.gpus, engine.max_num_seqs, ENGINE.context(args)) == (4, 8, 64)
    plain = api.Engine(type="tensorrtllm")
    assert (plain.gpus, plain.max_num_seqs, ENGINE.context({})) == (1, 256, None)


def test_what_is_rendered_are_the_arguments_of_the_llm_api() -> None:
    endpoint = api.LLMEndpoint.model_validate(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "chat"},
            "spec": {
                "pool": "llm",
                "model": {"path": "mine"},
                "engine": {"type": "tensorrtllm", "args": {"max_seq_len": 64}},
                "prompt": {"format": "Chat"},
                "guardrails": {},
            },
        }
    )
    assert render.engine_arguments(endpoint, "/weights") == {
        "model": "/weights/mine",
        "max_batch_size": 256,
        "max_seq_len": 64,
        "prompt": {"format": "Chat"},
    }
