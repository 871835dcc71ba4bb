"""Whether the weights that an endpoint has on this machine fit GPUs: for `validate --gpu-memory`, and before `serve` starts.

Reads the headers of the files, and decides with `memory`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tritonllm import api
from tritonllm.sizing import directory, memory
from tritonllm.sizing.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class Sized:
    """An endpoint's model, compared with GPUs."""

    model: Checkpoint
    fit: memory.Fit


def size(endpoint: api.LLMEndpoint, root: str, gpu_bytes: int, vllm_version: str | None) -> Sized | str:
    """Compares an endpoint with GPUs.

    Args:
        endpoint: with the commit of its weights where they are of a repository.
        root: of the weights.
        gpu_bytes: memory of each GPU.
        vllm_version: of the vLLM that will run; None if it is unknown.

    Returns:
        The comparison, or why there is none.
    """
    engine = endpoint.spec.engine
    share = engine.definition.memory_share(engine.args, vllm_version)
    if share is None:
        return f"engine type {engine.type} takes what it needs of a GPU, which is not known"
    if not engine.definition.loads_weights(engine.args):
        return "its weights are not loaded"
    if engine.args.get("cpu_offload_gb"):
        return "cpu_offload_gb keeps a part of the weights out of the GPU"
    if endpoint.spec.model is not None and endpoint.spec.model.image is not None:
        return "its weights are in an image"
    place = endpoint.directory(root)
    assert place is not None
    if not Path(place, "config.json").is_file():
        return f"its weights are not in {place}; download them, or give their root with --weights"
    try:
        model = directory.read(Path(place))
    except (OSError, ValueError) as error:
        return str(error)
    settings = dataclasses.replace(
        memory.Settings.of(engine.args, share),
        max_num_seqs=engine.max_num_seqs,
        window_cache=engine.definition.window_cache,
    )
    return Sized(model, memory.fit(model, settings, gpu_bytes))
