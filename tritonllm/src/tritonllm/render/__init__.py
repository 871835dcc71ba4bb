"""Endpoint in, Triton model repository out: the one function that every part of the system shares.

The CLI and the container run what it returns, the operator compares it with what a pod reports. It is
pure: no clock, no environment, no I/O, and byte for byte the same for the same endpoint.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tritonllm import api
from tritonllm.render import canonical

if TYPE_CHECKING:
    # Triton's schema takes a fifth of a second to import, and who only checks a file needs none of it.
    from tritonllm.render import config

Repository = dict[str, dict[str, bytes]]
"""Model name → path inside the model's directory → content."""

_SOURCES = importlib.resources.files("tritonllm") / "model_repository"
_CODE = {
    kind: (_SOURCES / kind / "1" / "model.py").read_bytes() for kind in ("pipeline", "guardrail", "engine")
}


def repository(endpoints: Iterable[api.LLMEndpoint], *, weights: str) -> Repository:
    """Renders the model repository of a pod that serves these endpoints.

    Args:
        endpoints: validated endpoints with unique names.
        weights: root of the weights volume as the pod sees it, an absolute path.

    Returns:
        Three models an endpoint: its pipeline, guardrail and engine.
    """
    from tritonllm.render import config

    rendered: Repository = {}
    for endpoint in endpoints:
        for model in config.models(endpoint):
            files = {"config.pbtxt": config_text(model), "1/model.py": _CODE[config.kind(model)]}
            if model.name == endpoint.engine_name:
                files["1/model.json"] = canonical.pretty(engine_arguments(endpoint, weights))
            rendered[model.name] = files
    return rendered


def config_text(model: config.ModelConfig) -> bytes:
    """A model's `config.pbtxt`."""
    from google.protobuf import text_format

    return text_format.MessageToString(model, as_utf8=True).encode()


def engine_arguments(endpoint: api.LLMEndpoint, weights: str) -> dict[str, object]:
    """What the engine is started with: `1/model.json`, as in Triton's own vLLM backend."""
    arguments: dict[str, object] = {"max_num_seqs": endpoint.spec.engine.max_num_seqs}
    model = endpoint.spec.model
    if model is not None:
        arguments["model"] = endpoint.directory(weights)
        if model.trust_remote_code:
            arguments["trust_remote_code"] = True
    return arguments | endpoint.spec.engine.args
