"""Loads a causal model and its tokenizer from a directory, and finds out how much memory is left for the KV cache."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tritonllm.engines.transformers import TransformersArgs
from tritonllm.runtime import causal_model
from tritonllm.sizing import checkpoint, directory

log = logging.getLogger(__name__)

# Beside the keys and values, a step needs copies of those of a layer at a time.
_CACHE_OVERHEAD = 1.25
_TRIED_ON_CPU = 8


@dataclass(frozen=True)
class Loaded:
    """A model that can be run.

    Attributes:
        model: the forward pass.
        tokenizer: of the model; `max_chars_per_token` is set.
        vocabulary: number of token ids.
        context: maximum number of tokens of prompt and answer together.
        cache_tokens: maximum number of tokens in the KV cache.
        stop_tokens: that end an answer.
        advised: sampling parameters that the model's authors advise in `generation_config.json`.
    """

    model: causal_model.CausalModel
    tokenizer: Any
    vocabulary: int
    context: int
    cache_tokens: int
    stop_tokens: frozenset[int]
    advised: dict[str, Any]


def load(weights: str, *, trust_remote_code: bool, args: TransformersArgs) -> Loaded:
    """Loads a model, and tries it.

    Args:
        weights: their directory.
        trust_remote_code: whether Python code in the directory is run.
        args: of the endpoint.

    Raises:
        ValueError: the model or its size is not what the endpoint needs.
    """
    began = time.monotonic()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights, **options)
    # What `prompts.PromptTokenizer` reads; vLLM sets it on its tokenizers.
    tokenizer.max_chars_per_token = max(map(len, tokenizer.get_vocab()))
    config_json = directory.json_object(Path(weights, "config.json"))
    with_report: Any = transformers.AutoModelForCausalLM.from_pretrained(
        weights,
        dtype=checkpoint.Checkpoint(config_json).dtype(args.dtype),
        output_loading_info=True,
        **options,
    )
    loaded, report = with_report
    if missing := sorted(report["missing_keys"]):
        # Such a model would answer, with random parameters.
        raise ValueError(
            f"the weights in {weights} lack {', '.join(missing[:3])}; they are not a causal model's"
        )
    device = torch.device(_device(args.device))
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(args.gpu_memory_utilization)
    model = causal_model.CausalModel(loaded.eval().to(device))
    config = loaded.config.get_text_config(decoder=True)
    context = _context(getattr(config, "max_position_embeddings", None), args.max_model_len)
    cache_tokens = _cache_tokens(model, context, args)
    log.info(
        "loaded in %.1f s on %s; room for %d tokens in the KV cache",
        time.monotonic() - began,
        device,
        cache_tokens,
    )
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        vocabulary=config.vocab_size,
        context=context,
        cache_tokens=cache_tokens,
        stop_tokens=_stop_tokens(tokenizer, loaded.generation_config),
        advised=_advised(loaded.generation_config),
    )


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _context(made_for: int | None, wanted: int | None) -> int:
    if made_for is None and wanted is None:
        raise ValueError(
            "engine.args.max_model_len: is needed, because config.json has no `max_position_embeddings`"
        )
    if made_for is not None and wanted is not None and wanted > made_for:
        raise ValueError(
            f"engine.args.max_model_len: must be at most {made_for}, for which the model was made, got {wanted}"
        )
    return wanted or made_for or 0


@torch.inference_mode()
def _cache_tokens(model: causal_model.CausalModel, context: int, args: TransformersArgs) -> int:
    """Runs the model once, which shows that it works, and on a GPU how much memory it needs."""
    wanted = args.max_num_seqs * context
    if model.device.type != "cuda":
        model.start([0] * min(_TRIED_ON_CPU, context))
        return wanted
    tokens = min(causal_model.PREFILL_TOKENS, context)
    before = torch.cuda.memory_allocated()
    batch, _ = model.start([0] * tokens)
    token_bytes = (torch.cuda.memory_allocated() - before) / tokens * _CACHE_OVERHEAD
    del batch
    total = torch.cuda.get_device_properties(model.device).total_memory
    left = total * args.gpu_memory_utilization - torch.cuda.max_memory_allocated()
    room = int(left / token_bytes)
    if room < context:
        raise ValueError(
            f"the GPU has room for a KV cache of {max(0, room)} tokens, and max_model_len is {context}; lower"
            " engine.args.max_model_len, or raise gpu_memory_utilization"
        )
    return min(wanted, room)


def _stop_tokens(tokenizer: Any, config: transformers.GenerationConfig) -> frozenset[int]:
    ends = config.eos_token_id
    found = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in (*found, tokenizer.eos_token_id) if token is not None)


def _advised(config: transformers.GenerationConfig) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    differs = config.to_diff_dict()
    return {name: differs[name] for name in names if differs.get(name) is not None}
