"""LoRA adapters in miniature, for `models.tiny_llama` and for what does not fit it."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any


def adapter(
    directory: Path,
    *,
    seed: int = 1,
    rank: int = 4,
    hidden: int = 128,
    layers: int = 3,
    target: str = "q_proj",
    **config: Any,
) -> Path:
    """Writes an adapter as PEFT does, whose random matrices change what the model says.

    Args:
        directory: where to; made when missing.
        seed: another one is another adapter.
        rank: of the matrices.
        hidden: inputs and outputs of the target.
        layers: number of layers.
        target: module of `self_attn`.
        config: further fields of its configuration.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files(
        seed=seed, rank=rank, hidden=hidden, layers=layers, target=target, **config
    ).items():
        (directory / name).write_bytes(content)
    return directory


def files(
    *, seed: int = 1, rank: int = 4, hidden: int = 128, layers: int = 3, target: str = "q_proj", **config: Any
) -> dict[str, bytes]:
    """The files of `adapter`."""
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "acme/tiny",
        "r": rank,
        # So large that answers differ at temperature 0.
        "lora_alpha": 64 * rank,
        "target_modules": [target],
        "bias": "none",
        **config,
    }
    values = random.Random(seed)
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(layers):
        module = f"base_model.model.model.layers.{layer}.self_attn.{target}"
        shapes[f"{module}.lora_A.weight"] = (rank, hidden)
        shapes[f"{module}.lora_B.weight"] = (hidden, rank)
    header: dict[str, Any] = {}
    body = b""
    for name, (rows, columns) in shapes.items():
        data = struct.pack(f"<{rows * columns}f", *(values.gauss(0, 1) for _ in range(rows * columns)))
        header[name] = {
            "dtype": "F32",
            "shape": [rows, columns],
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return {
        "adapter_config.json": json.dumps(described).encode(),
        "adapter_model.safetensors": struct.pack("<Q", len(text)) + text + body,
    }
