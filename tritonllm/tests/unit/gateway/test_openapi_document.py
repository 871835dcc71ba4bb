"""The OpenAPI document says what the gateway accepts. Requests that are made from it are in the integration tests."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema
import pytest
from starlette.routing import Route

import gateway_server
from scripted_upstream import ScriptedUpstream
from tritonllm.gateway import app, openapi

HI = [{"role": "user", "content": "Hi"}]


def schema(path: str) -> dict[str, Any]:
    document = openapi.document()
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return {"components": document["components"], **body}


def test_the_document_is_served_and_has_every_route() -> None:
    routes = app.create_app(ScriptedUpstream([]))
    with gateway_server.serve(routes) as served:
        document = httpx.get(f"{served.url}/openapi.json").json()
    assert document == openapi.document()
    known = {route.path for route in routes.routes if isinstance(route, Route)} - {openapi.PATH}
    assert set(document["paths"]) == known


@pytest.mark.parametrize(
    ("asked", "valid"),
    [
        ({}, True),
        ({"max_tokens": 5, "stop": ["a"], "stream": True, "stream_options": {"include_usage": True}}, True),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, True),
        ({"store": False, "user": "me", "audio": None}, True),
        ({"store": True}, False),
        ({"audio": {"voice": "x"}}, False),
        ({"max_token": 5}, False),
        ({"temperature": 3}, False),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, False),
    ],
)
def test_the_schema_of_a_request_allows_what_the_gateway_accepts(asked: dict[str, Any], valid: bool) -> None:
    body = {"model": "chat", "messages": HI} | asked
    assert jsonschema.Draft202012Validator(schema("/v1/chat/completions")).is_valid(body) is valid
