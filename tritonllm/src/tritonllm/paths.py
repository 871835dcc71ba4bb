"""Where tritonllm keeps things on this machine, when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """What can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tritonllm"


def weights() -> Path:
    """Weights of models."""
    return cache() / "weights"
