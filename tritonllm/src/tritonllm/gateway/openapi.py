"""`GET /openapi.json`: the OpenAPI document, made from the models that validate requests.

A field that is refused has no values in it but those that ask for nothing, so what the document allows is what the gateway
accepts, except for rules across fields. Of answers it has the outline; OpenAI's schemas have the rest.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import orjson
import pydantic
from pydantic import json_schema
from starlette.requests import Request
from starlette.responses import Response

from tritonllm import errors
from tritonllm.gateway import chat_fields, completion_fields, moderations, responses_fields

PATH = "/openapi.json"

_JSON = "application/json"
_STREAM = "text/event-stream"
_SCHEMAS = "#/components/schemas/"

Schema = dict[str, Any]

_REQUESTS: dict[str, tuple[type[pydantic.BaseModel], str, tuple[str, ...]]] = {
    "/v1/chat/completions": (
        chat_fields.ChatRequest,
        "Answers a conversation",
        ("id", "object", "created", "model", "choices", "usage", "guardrails"),
    ),
    "/v1/completions": (
        completion_fields.CompletionRequest,
        "Continues a text",
        ("id", "object", "created", "model", "choices", "usage", "guardrails"),
    ),
    "/v1/responses": (
        responses_fields.ResponsesRequest,
        "Answers a conversation, in the form of the Responses API; nothing is stored",
        ("id", "object", "created_at", "model", "output", "status", "usage", "guardrails"),
    ),
    "/v1/moderations": (
        moderations.ModerationRequest,
        "Applies an endpoint's rules to texts",
        ("id", "model", "results"),
    ),
}
"""Of each route that has a body: its model, what it does, and the fields that an answer always has."""

# Of what can be wrong with any request; 408, 413 and the like have the same body.
_STATUSES = ("400", "401", "403", "404", "408", "413", "429", "500", "503", "504")


async def answer(_: Request) -> Response:
    """The handler of the route."""
    return Response(_serialized(), media_type=_JSON)


@functools.cache
def _serialized() -> bytes:
    return orjson.dumps(document())


def document() -> Schema:
    """The document, in OpenAPI 3.1."""
    models = [(model, "validation") for model, _, _ in _REQUESTS.values()]
    names, definitions = json_schema.models_json_schema(
        models,  # pyright: ignore[reportArgumentType]
        ref_template=_SCHEMAS + "{model}",
    )
    paths = {
        path: {
            "post": _operation(summary, _object(*answered), streams="stream" in model.model_fields)
            | {
                "requestBody": {
                    "required": True,
                    "content": {_JSON: {"schema": names[model, "validation"]}},
                }
            }
        }
        for path, (model, summary, answered) in _REQUESTS.items()
    }
    model = _object("id", "object", "created", "owned_by", "max_model_len")
    listed = _object("object", "data") | {
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": model}}
    }
    one = _operation("An endpoint that accepts requests now", model) | {
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    }
    health = _object("status", "endpoints")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tritonllm",
            "version": importlib.metadata.version("tritonllm"),
            "description": "OpenAI's API of the endpoints of a pool. `model` is the name of an endpoint.",
        },
        "paths": paths
        | {
            "/v1/models": {"get": _operation("The endpoints that accept requests now", listed)},
            "/v1/models/{model}": {"get": one},
            "/health": {
                "get": {
                    "summary": "Whether requests can be answered",
                    "security": [],
                    "responses": {
                        "200": _response("At least one endpoint accepts requests", {_JSON: health}),
                        "503": _response("None does", {_JSON: health}),
                    },
                }
            },
        },
        "security": [{"key": []}, {}],
        "components": {
            "schemas": definitions.get("$defs", {}) | {"Error": _error()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(summary: str, answered: Schema, *, streams: bool = False) -> Schema:
    contents: Schema = {_JSON: answered} | ({_STREAM: {}} if streams else {})
    failures = {
        status: _response("See error.code", {_JSON: {"$ref": f"{_SCHEMAS}Error"}}) for status in _STATUSES
    }
    return {"summary": summary, "responses": {"200": _response("The answer", contents)} | failures}


def _response(description: str, contents: Schema) -> Schema:
    return {
        "description": description,
        "content": {kind: {"schema": schema} for kind, schema in contents.items()},
    }


def _object(*fields: str) -> Schema:
    return {"type": "object", "required": list(fields)}


def _error() -> Schema:
    described = _object("message", "type", "param", "code")
    described["properties"] = {
        "message": {"type": "string"},
        "type": {"enum": sorted({row.type for row in errors.TABLE.values()})},
        "param": {"type": ["string", "null"], "description": "The field of the request that is at fault."},
        "code": {"enum": sorted(errors.TABLE)},
    }
    return _object("error") | {"properties": {"error": described}}
