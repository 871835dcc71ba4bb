"""Proposes the engine arguments for a model on given GPUs, each with its reason. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from tritonllm.sizing import memory
from tritonllm.sizing.checkpoint import Checkpoint

# A context is long enough if so many requests that fill it fit at once: fewer would wait for each other. Most requests
# are shorter, so more of them run.
_REQUESTS = 16
# No context shorter than this is proposed for the sake of more requests.
_SHORT = 4096


@dataclass(frozen=True)
class Wishes:
    """What the user asked for.

    Attributes:
        gpus: of a pod.
        gpu_bytes: memory of each; None where it was not given.
        max_model_len: None to choose one.
        quantization: None for that of the checkpoint.
        kv_cache_dtype: None for that of the model.
        share: of a GPU that the engine takes; None for `memory.DEFAULT_SHARE`.
    """

    gpus: int = 1
    gpu_bytes: int | None = None
    max_model_len: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    share: float | None = None


@dataclass(frozen=True)
class Proposal:
    """Engine arguments.

    Attributes:
        args: `spec.engine.args`.
        reasons: one sentence for each choice.
        fit: of a model with these arguments; None without the memory of a GPU.
    """

    args: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    fit: memory.Fit | None = None


def propose(model: Checkpoint, wishes: Wishes, template: str | None = None) -> Proposal:
    """Chooses engine arguments.

    Args:
        model: its files.
        wishes: of the user.
        template: the chat template; None without one.
    """
    made = Proposal()
    _precision(model, wishes, made)
    _parallel(model, wishes, made)
    found = _length(model, wishes, made)
    _parsers(model, template, made)
    return dataclasses.replace(made, fit=found)


def _precision(model: Checkpoint, wishes: Wishes, made: Proposal) -> None:
    for name in ("quantization", "kv_cache_dtype"):
        value = getattr(wishes, name)
        if value is not None:
            made.args[name] = value
            made.reasons.append(f"{name} {value}: as asked")
    if model.quantization is not None:
        made.reasons.append(
            f"quantization: the checkpoint is quantized with {model.quantization}, which the engine finds out"
        )
    made.reasons.append(f"dtype: not set, so that of the checkpoint, {model.dtype()}")


def _parallel(model: Checkpoint, wishes: Wishes, made: Proposal) -> None:
    size = next(each for each in range(wishes.gpus, 0, -1) if each == 1 or memory.divides(model, each))
    if size > 1:
        made.args["tensor_parallel_size"] = size
    if size == wishes.gpus:
        made.reasons.append(f"tensor_parallel_size {size}: the GPUs of a pod")
    else:
        heads = model.text_config.get("num_attention_heads", "unknown")
        made.reasons.append(
            f"tensor_parallel_size {size}: {wishes.gpus} GPUs can't share {heads} attention heads evenly"
        )


def _length(model: Checkpoint, wishes: Wishes, made: Proposal) -> memory.Fit | None:
    said = f"config.json says {model.context}" if model.context else "config.json does not say the context"
    if wishes.max_model_len is not None:
        made.args["max_model_len"] = wishes.max_model_len
        made.reasons.append(f"max_model_len {wishes.max_model_len}: as asked; {said}")
    if wishes.gpu_bytes is None:
        if wishes.max_model_len is None:
            made.reasons.append(f"max_model_len: not set ({said}); give --gpu-memory to choose what fits")
        return None
    settings = memory.Settings.of(made.args, wishes.share)
    if wishes.max_model_len is None:
        many = memory.longest(model, settings, wishes.gpu_bytes, _REQUESTS)
        one = memory.longest(model, settings, wishes.gpu_bytes)
        length = many if many and many >= _SHORT else min(one or 0, _SHORT)
        if length:
            made.args["max_model_len"] = length
            settings = memory.Settings.of(made.args, wishes.share)
        elif model.context is not None:
            # What would fit is advised for a short context.
            settings = dataclasses.replace(settings, max_model_len=min(model.context, _SHORT))
    found = memory.fit(model, settings, wishes.gpu_bytes)
    if wishes.max_model_len is None:
        if "max_model_len" in made.args:
            made.reasons.append(
                f"max_model_len {found.length}: {said}, of which {found.length} fits {found.requests} concurrent requests"
            )
        else:
            made.reasons.append(f"max_model_len: not set; {said}")
    made.reasons.append(
        f"max_num_seqs: not set, so {settings.max_num_seqs}; what the KV cache has no room for waits"
    )
    made.reasons.append(memory.sentence(found))
    changes = memory.advice(model, found)
    if changes:
        made.reasons.append(f"would fit: {' or '.join(changes)}")
    return found


# The parsers that vLLM's documentation names for a family: https://docs.vllm.ai/en/latest/features/tool_calling/ and
# https://docs.vllm.ai/en/latest/features/reasoning_outputs/. Each counts only where the chat template has the form that
# the parser reads.
_TOOLS = {
    "qwen2": ("hermes", "<tool_call>"),
    "qwen2_moe": ("hermes", "<tool_call>"),
    "qwen3": ("hermes", '{"name": <function-name>'),
    "qwen3_moe": ("hermes", '{"name": <function-name>'),
    "llama": ("llama3_json", "<|python_tag|>"),
    "mistral": ("mistral", "[TOOL_CALLS]"),
    "mixtral": ("mistral", "[TOOL_CALLS]"),
    "gpt_oss": ("openai", "<|channel|>"),
    "deepseek_v3": ("deepseek_v3", "<｜tool▁calls▁begin｜>"),
}
_REASONING = {
    "qwen3": ("qwen3", "</think>"),
    "qwen3_moe": ("qwen3", "</think>"),
    "gpt_oss": ("openai_gptoss", "<|channel|>"),
}


def _parsers(model: Checkpoint, template: str | None, made: Proposal) -> None:
    family = str(model.config.get("model_type"))
    for name, table in (("tool_call_parser", _TOOLS), ("reasoning_parser", _REASONING)):
        parser, form = table.get(family, (None, ""))
        if parser is not None and template is not None and form in template:
            made.args[name] = parser
            made.reasons.append(f"{name} {parser}: of model type {family}, and its chat template has {form}")
