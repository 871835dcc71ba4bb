"""Models in miniature, for tests of what is done with their files."""

from __future__ import annotations

import json
import random
import struct


def safetensors(size: int, seed: int = 0) -> bytes:
    """A file with one tensor of so many bytes."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(size)


def model(size: int = 300_000, shards: int = 3) -> dict[str, bytes]:
    """The files of a repository: a model in shards, what describes it, and what serving does not need."""
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    index = {"weight_map": {f"layer{number}": name for number, name in enumerate(names)}}
    return {
        **{name: safetensors(size // shards, seed) for seed, name in enumerate(names)},
        "model.safetensors.index.json": json.dumps(index).encode(),
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "tokenizer.json": json.dumps({"model": {"vocab": list(range(1000))}}).encode(),
        "chat_template.jinja": b"{{ messages }}",
        "special.txt": b"",
        "README.md": b"# A model",
        "modeling.py": b"raise SystemExit",
        "pytorch_model.bin": b"not wanted" * 500,
    }


def needed(files: dict[str, bytes], code: bool = False) -> dict[str, bytes]:
    """The files of `model` that serving needs."""
    left = {"README.md", "pytorch_model.bin"} | (set() if code else {"modeling.py"})
    return {path: content for path, content in files.items() if path not in left}
