"""The context length of an engine's model, for its pipelines: a file in the directory of the run.

Only a loaded engine knows it, because vLLM reads it from the model where the endpoint does not set it. An engine is loaded
before its pipelines, which describe the endpoint to gateways.
"""

from __future__ import annotations

import os
from pathlib import Path

from tritonllm.ipc import listener


def write(engine: str, tokens: int | None) -> None:
    """Publishes the context length, unless there is no directory of the run.

    Args:
        engine: name of the engine's Triton model.
        tokens: maximum number of tokens of prompt and answer together; None if the engine does not know it.
    """
    path = _path(engine)
    if path is None:
        return
    if tokens is None:
        # That of another engine which the endpoint had before.
        path.unlink(missing_ok=True)
    else:
        path.write_text(str(tokens))


def read(engine: str) -> int | None:
    """The context length that an engine has published; None if there is none."""
    path = _path(engine)
    return int(path.read_text()) if path is not None and path.exists() else None


def _path(engine: str) -> Path | None:
    directory = os.environ.get(listener.DIRECTORY)
    return Path(directory, f"{engine}.context") if directory else None
