"""Quantizes a small Llama to 4 bits in the format of GPTQ checkpoints, for tests of that format.

By rounding to the nearest step, without the calibration that makes GPTQ good. Beside it, the same values as plain float16
weights: a kernel that reads the format right gives the same answers for both.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BITS = 4
_PER_WORD = 32 // _BITS
# The middle of 0 to 15. The format stores zero points less one.
_ZERO = 8
_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def quantize(source: Path, quantized: Path, plain: Path, group_size: int = 128) -> None:
    """Writes two checkpoints of one model.

    Args:
        source: a Llama with safetensors weights.
        quantized: directory for the weights as `qweight`, `qzeros`, `scales` and `g_idx`.
        plain: directory for what these mean, as float16.
        group_size: number of inputs that share a scale; divides the sizes of all linear layers.
    """
    from safetensors.torch import load_file, save_file

    packed: dict[str, torch.Tensor] = {}
    meant: dict[str, torch.Tensor] = {}
    for name, weight in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.endswith(_LAYERS):
            parts, meant[name] = _linear(weight.float(), group_size)
            packed |= {f"{layer}.{part}": tensor for part, tensor in parts.items()}
        else:
            packed[name] = meant[name] = weight.half()
    quantization = {
        "quant_method": "gptq",
        "bits": _BITS,
        "group_size": group_size,
        "desc_act": False,
        "sym": True,
        "lm_head": False,
    }
    for directory, tensors, extra in (
        (quantized, packed, {"quantization_config": quantization}),
        (plain, meant, {}),
    ):
        directory.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.json"):
            shutil.copy(file, directory)
        config = json.loads((source / "config.json").read_text())
        for key in ("dtype", "torch_dtype"):
            config.pop(key, None)
        (directory / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"} | extra))
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _linear(weight: torch.Tensor, group_size: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """One layer of shape (outputs, inputs): its parts in the format, and what they mean."""
    import torch

    outputs, inputs = weight.shape
    grouped = weight.reshape(outputs, inputs // group_size, group_size)
    scales = (grouped.abs().amax(dim=2) / (_ZERO - 1)).half()
    steps = (grouped / scales.float().unsqueeze(2)).round().clamp(-_ZERO, _ZERO - 1)
    meant = (steps.half() * scales.unsqueeze(2)).reshape(outputs, inputs)
    values = (steps + _ZERO).reshape(outputs, inputs).T.to(torch.int64)
    zeros = torch.full((inputs // group_size, outputs), _ZERO - 1, dtype=torch.int64)
    parts = {
        "qweight": _pack(values.reshape(inputs // _PER_WORD, _PER_WORD, outputs).transpose(1, 2)),
        "qzeros": _pack(zeros.reshape(-1, outputs // _PER_WORD, _PER_WORD)),
        "scales": scales.T.contiguous(),
        "g_idx": (torch.arange(inputs) // group_size).to(torch.int32),
    }
    return parts, meant.contiguous()


def _pack(values: torch.Tensor) -> torch.Tensor:
    """Eight values of four bits in each int32, the first one lowest; the last dimension goes."""
    import torch

    shifts = torch.arange(_PER_WORD, dtype=torch.int64) * _BITS
    words = (values << shifts).sum(dim=-1)
    # To the signed number with the same bits.
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32).contiguous()
