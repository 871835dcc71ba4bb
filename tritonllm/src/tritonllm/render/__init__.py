"""Renders Triton's model repository of an endpoint.

The CLI and the container serve the result; the operator compares it with what a pod reports. The function is pure: no
clock, no environment, no I/O, and the output for the same endpoint is the same, byte for byte.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tritonllm.render import canonical

if TYPE_CHECKING:
    from tritonllm import api

    # Triton's schema takes 0.2 s to import, and validating a file does not need it.
    from tritonllm.render import config

Repository = dict[str, dict[str, bytes]]
"""Model name → path inside the model's directory → content."""

_SOURCES = importlib.resources.files("tritonllm") / "model_repository"
_CODE = {
    kind: (_SOURCES / kind / "1" / "model.py").read_bytes()
    for kind in ("pipeline", "guardrail", "engine", "classifier")
}


def repository(endpoints: Iterable[api.LLMEndpoint], *, weights: str) -> Repository:
    """Renders the model repository of a pod that serves these endpoints.

    Args:
        endpoints: validated endpoints with unique names.
        weights: root of the weights volume in the pod, an absolute path.

    Returns:
        Three models per endpoint: its pipeline, guardrail and engine; or one, if it is a classifier.
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
    """`1/model.json`: the weights, and what the engine's type adds."""
    spec = endpoint.spec
    arguments: dict[str, object] = {}
    model = spec.model
    if model is not None:
        arguments["model"] = endpoint.directory(weights)
        if model.trust_remote_code:
            arguments["trust_remote_code"] = True
    if spec.engine.max_adapters:
        # Not part of its hash: adapters come and go while it runs.
        arguments["weights"] = weights
    return arguments | spec.engine.definition.model_json(spec.engine.args, spec.prompt.given())
