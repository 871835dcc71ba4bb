"""Default directories on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Directory of files that can be created again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tritonllm"


def weights() -> Path:
    """Root of the weights."""
    return cache() / "weights"
