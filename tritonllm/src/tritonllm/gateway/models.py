"""`GET /v1/models` and `GET /v1/models/{id}`: the endpoints that accept requests now."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonllm import errors
from tritonllm.gateway import reading, records, upstream

OWNER = "tritonllm"


def listing(source: upstream.Upstream) -> reading.Handler:
    """The handler of the list: the endpoints that the API key is valid for."""

    async def answer(request: Request) -> Response:
        record = records.of(request.scope)
        found = [
            described
            for name, endpoint in sorted(source.endpoints().items())
            if record.allows(name)
            for described in (model(endpoint), *(_adapter(endpoint, each) for each in endpoint.adapters))
        ]
        return reading.respond({"object": "list", "data": found})

    return answer


def one(source: upstream.Upstream) -> reading.Handler:
    """The handler of one of them."""

    async def answer(request: Request) -> Response:
        asked = request.path_params["model"]
        name, adapter = upstream.split(asked)
        endpoint = source.endpoints().get(name)
        if endpoint is None or not records.of(request.scope).allows(name):
            raise missing(asked)
        if adapter is not None and adapter not in endpoint.adapters:
            raise missing(asked)
        described = model(endpoint) if adapter is None else _adapter(endpoint, adapter)
        return reading.respond(described, {"X-Guardrail-Policy": endpoint.policy})

    return answer


def model(endpoint: upstream.Endpoint) -> dict[str, Any]:
    """OpenAI's `model` object; `max_model_len` as in vLLM's server."""
    return {
        "id": endpoint.name,
        "object": "model",
        "created": int(endpoint.created),
        "owned_by": OWNER,
        "max_model_len": endpoint.context,
    }


def _adapter(endpoint: upstream.Endpoint, adapter: str) -> dict[str, Any]:
    """The same of an adapter; `parent` as in vLLM's server."""
    return model(endpoint) | {"id": f"{endpoint.name}:{adapter}", "parent": endpoint.name}


def missing(name: str) -> errors.RequestError:
    """The error for a name that no endpoint has."""
    return errors.RequestError(
        "model_not_found",
        "model",
        f"The model `{name}` does not exist or is not loaded; GET /v1/models lists them",
    )
