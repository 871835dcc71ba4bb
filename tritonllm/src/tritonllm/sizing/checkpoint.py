"""What a model's files hold: the tensors of its safetensors headers, and their bytes once they are loaded. Pure."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_HEADER_BYTES = 100_000_000
"""The longest header that the safetensors library reads: https://github.com/huggingface/safetensors#format."""

# Bits of an element: the dtypes of https://docs.rs/safetensors (`Dtype`).
_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
}
# Cast to the engine's dtype when they are loaded, unless the checkpoint is quantized.
_FLOATS = ("F64", "F32", "F16", "BF16")
_DTYPE_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
_LAYER = re.compile(r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?layers\.(\d+)\.")
_NOT_LINEAR = re.compile(r"embed_tokens|lm_head|norm|router|\.gate\.|vision|visual|projector")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint.

    Attributes:
        name: in the checkpoint.
        dtype: as safetensors names it, such as `BF16`.
        shape: of the tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """Bytes in the file."""
        return math.ceil(self.elements * _BITS[self.dtype] / 8)

    @property
    def layer(self) -> int | None:
        """Index of the decoder layer that it belongs to; None outside of them."""
        found = _LAYER.match(self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Checkpoint:
    """A model as its files describe it.

    Attributes:
        config: `config.json`.
        tensors: of all weights; empty where no file has a safetensors header.
    """

    config: Mapping[str, Any]
    tensors: tuple[Tensor, ...] = ()

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of `config.json` that describes the language model."""
        nested = self.config.get("text_config")
        return nested if isinstance(nested, Mapping) else self.config

    @property
    def context(self) -> int | None:
        """Positions that the model was made for; None where `config.json` does not say."""
        value = self.text_config.get("max_position_embeddings")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def layers(self) -> int | None:
        """Number of decoder layers; None where `config.json` does not say."""
        value = self.text_config.get("num_hidden_layers")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def quantization(self) -> str | None:
        """How the weights are quantized, such as `gptq`; None if they are not."""
        for config in (self.config, self.text_config):
            found = config.get("quantization_config")
            if isinstance(found, Mapping):
                return str(found.get("quant_method", "unnamed"))
        return None

    def dtype(self, asked: str | None = None) -> str:
        """The dtype that vLLM computes in.

        Args:
            asked: `engine.args.dtype`; None and `auto` for that of the checkpoint, where float32 becomes 16 bits:
                https://docs.vllm.ai/en/latest/configuration/engine_args/ (`--dtype`).
        """
        if asked and asked != "auto":
            return asked
        configs = (self.text_config, self.config)
        named = next((str(c[k]) for c in configs for k in ("dtype", "torch_dtype") if c.get(k)), None)
        return "float16" if named == "float16" else "bfloat16"

    def loaded_bytes(self, dtype: str | None = None, quantization: str | None = None) -> Loaded | None:
        """Bytes of the weights in the memory of GPUs.

        Args:
            dtype: `engine.args.dtype`.
            quantization: `engine.args.quantization`.

        Returns:
            None where it can't be known: without safetensors headers, with an unknown dtype, or with a quantization at
            load time other than fp8.
        """
        online = quantization if self.quantization is None else None
        size = _DTYPE_BYTES.get(self.dtype(dtype))
        loaded = [tensor for tensor in self.tensors if not self._skipped(tensor)]
        if not loaded or size is None or online not in (None, "fp8"):
            return None
        if any(tensor.dtype not in _BITS for tensor in loaded):
            return None
        found = [(tensor, self._bytes(tensor, size, online)) for tensor in loaded]
        in_layers = sum(count for tensor, count in found if tensor.layer is not None)
        return Loaded(in_layers, sum(count for _, count in found) - in_layers)

    def _skipped(self, tensor: Tensor) -> bool:
        # Layers behind the last predict several tokens, and are loaded for speculative decoding alone.
        if tensor.layer is not None and self.layers is not None and tensor.layer >= self.layers:
            return True
        tied = self.config.get("tie_word_embeddings", self.text_config.get("tie_word_embeddings"))
        return tied is True and tensor.name.startswith("lm_head.")

    def _bytes(self, tensor: Tensor, size: int, online: str | None) -> int:
        if self.quantization is not None or tensor.dtype not in _FLOATS:
            return tensor.stored_bytes
        if online == "fp8" and len(tensor.shape) >= 2 and not _NOT_LINEAR.search(tensor.name):
            return tensor.elements
        return tensor.elements * size


@dataclass(frozen=True)
class Loaded:
    """Bytes of loaded weights.

    Attributes:
        in_layers: of the decoder layers.
        outside: of embeddings and everything else.
    """

    in_layers: int
    outside: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_layers + self.outside


def header_bytes(beginning: bytes) -> int:
    """Length of the header behind the first 8 bytes of a safetensors file.

    Raises:
        ValueError: these are no first bytes of one.
    """
    if len(beginning) < 8:
        raise ValueError("is shorter than the length of a safetensors header")
    (length,) = struct.unpack("<Q", beginning[:8])
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ValueError(f"has no safetensors header: its length would be {length} bytes")
    return int(length)


def tensors(header: bytes) -> list[Tensor]:
    """The tensors of a safetensors header.

    Args:
        header: its JSON, without the length before it.

    Raises:
        ValueError: it is no header.
    """
    try:
        entries = json.loads(header)
        return [
            Tensor(name, str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
            for name, entry in entries.items()
            if name != "__metadata__"
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"has a safetensors header that can't be read ({error})") from None


def unique(found: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Each tensor once, where files repeat it."""
    return tuple({tensor.name: tensor for tensor in found}.values())
