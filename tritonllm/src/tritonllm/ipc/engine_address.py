"""Where an engine listens, for its pipelines: a file in the directory of the run.

A lease names the socket as well, but is opened by a request. Adapters have to be loaded before the first one.
"""

from __future__ import annotations

import os
from pathlib import Path

from tritonllm.ipc import listener


def write(engine: str, socket: Path) -> None:
    """Publishes the path of an engine's socket, unless there is no directory of the run.

    Args:
        engine: name of the engine's Triton model.
        socket: its path.
    """
    path = _path(engine)
    if path is not None:
        # In one step, because pipelines look for it at any time.
        new = path.with_suffix(".new")
        new.write_text(str(socket))
        new.replace(path)


def read(engine: str) -> str | None:
    """The path of the socket that an engine has published; None if there is none."""
    path = _path(engine)
    try:
        return path.read_text() if path is not None else None
    except FileNotFoundError:
        return None


def _path(engine: str) -> Path | None:
    directory = os.environ.get(listener.DIRECTORY)
    return Path(directory, f"{engine}.address") if directory else None
