"""Whether this process is the only one of its model: while Triton replaces a model, old and new both run."""

from __future__ import annotations

import os
from pathlib import Path


def is_only_instance() -> bool:
    """Whether no other process of this model lives: this one is the first, or the former one was killed."""
    own = _command("self")
    others = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return not any(_command(pid) == own for pid in others if int(pid) != os.getpid())


def _command(pid: str) -> list[bytes]:
    """The stub's program and its first argument, the path of the model; nothing for a process that is dead."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2]
    except OSError:
        return []
