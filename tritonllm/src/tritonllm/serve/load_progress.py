"""How far the start of an engine is, in words, as far as the lines tell that it logs.

vLLM has no other way to say it: its engine starts inside one call. A line that is not known here only makes the
progress less precise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tritonllm.serve import log_tail

# Source: the messages of vllm/v1/worker/gpu_model_runner.py, gpu_worker.py, model_executor/model_loader/*.py,
# compilation/*.py and v1/engine/core.py, vLLM 0.24 to 0.33. A progress bar ends with a carriage return.
_STAGES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), stage)
    for pattern, stage in (
        (r"Initializing a V1 LLM engine", "starting the processes of the engine"),
        (r"Starting to load model", "loading weights"),
        (
            r"(?:Loading|Multi-thread loading) .*?(?:shards|Streamer|loader).*?: +(?P<percent>\d+)%",
            "loading weights",
        ),
        # transformers
        (r"Loading weights: +(?P<percent>\d+)%", "loading weights"),
        (r"Loading weights took|Model loading took", "preparing the loaded weights"),
        (r"Dynamo bytecode transform|Compiling a graph|Compile and warming up model", "compiling the model"),
        (r"Directly load the compiled graph", "loading the compiled model from the cache"),
        (r"torch\.compile (?:takes|took)", "profiling memory"),
        (r"Available KV cache memory|KV cache size:", "allocating the KV cache"),
        (r"Capturing CUDA graphs?.*?: +(?P<percent>\d+)%", "capturing CUDA graphs"),
        (r"Graph capturing finished", "warming up"),
    )
)


def stage(lines: Sequence[str]) -> str:
    """What the engine is doing; empty if no line tells.

    Args:
        lines: what the server and its models have logged since the load began, oldest first.

    Returns:
        Such as `loading weights, 40 %`.
    """
    for line in reversed(lines):
        for pattern, name in _STAGES:
            if found := pattern.search(line):
                percent = found.groupdict().get("percent")
                return f"{name}, {percent} %" if percent else name
    return ""


def summary(lines: Sequence[str]) -> str:
    """The stage and the last error, as a suffix of a sentence; without a stage also the newest line. Empty if the log is.

    Args:
        lines: as for `stage`.
    """
    now, error, newest = stage(lines), log_tail.last_error(lines), log_tail.newest(lines)
    parts = [now] if now else []
    if error:
        parts.append(f"last error: {error}")
    if newest and not now and (not error or error not in newest):
        parts.append(f"log: {newest}")
    return "".join(f"; {part}" for part in parts)
