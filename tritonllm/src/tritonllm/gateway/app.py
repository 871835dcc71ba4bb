"""The routes of OpenAI's API as a Starlette application: `create_app`.

It only translates: requests into the pipeline's inputs, its outputs into answers, errors into statuses. What surrounds
the routes (keys, limits, logs, metrics) is in `stack`; how pipelines are reached, in the implementations of `upstream`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tritonllm import errors
from tritonllm.gateway import (
    chat,
    completions,
    failures,
    generation,
    models,
    moderations,
    openapi,
    reading,
    records,
    responses,
    upstream,
)

log = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""Status for the log of a request whose client left before it was answered; it is not received by anyone."""


def create_app(source: upstream.Upstream) -> Starlette:
    """The application.

    Args:
        source: of the endpoints; started and closed with the application.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await source.start()
        try:
            yield
        finally:
            await source.close()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat.route(source), methods=["POST"]),
            Route("/v1/completions", completions.route(source), methods=["POST"]),
            Route("/v1/responses", responses.route(source), methods=["POST"]),
            Route("/v1/moderations", moderations.route(source), methods=["POST"]),
            Route("/v1/models", models.listing(source), methods=["GET"]),
            Route("/v1/models/{model}", models.one(source), methods=["GET"]),
            Route(openapi.PATH, openapi.answer, methods=["GET"]),
            Route("/health", _health(source), methods=["GET"]),
        ],
        exception_handlers=cast(
            Any,
            {
                errors.RequestError: _failure(source),
                generation.ClientLeft: _left,
                HTTPException: _not_routed,
                Exception: _bug,
            },
        ),
        lifespan=lifespan,
    )


def _health(source: upstream.Upstream) -> reading.Handler:
    async def answer(_: Request) -> Response:
        """Whether requests can be answered: 200 with at least one endpoint, else 503."""
        found = sorted(source.endpoints())
        response = reading.respond({"status": "ok" if found else "unavailable", "endpoints": len(found)})
        response.status_code = 200 if found else 503
        return response

    return answer


def _failure(source: upstream.Upstream) -> Any:
    async def answer(request: Request, error: errors.RequestError) -> Response:
        """The response to a request that failed before anything was sent."""
        record = records.of(request.scope)
        record.fail(error.code)
        endpoint = source.endpoints().get(record.endpoint)
        return failures.response(error, {"X-Guardrail-Policy": endpoint.policy} if endpoint else None)

    return answer


async def _left(_: Request, __: generation.ClientLeft) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _not_routed(request: Request, problem: HTTPException) -> Response:
    path = request.url.path
    if problem.status_code == 405:
        allowed = (problem.headers or {}).get("Allow", "")
        error = errors.RequestError(
            "method_not_allowed", "", f"{path} does not accept {request.method}; use {allowed}"
        )
    else:
        error = errors.RequestError(
            "not_found", "", f"There is no {path}; the API is at /v1, such as /v1/models"
        )
    records.of(request.scope).fail(error.code)
    return failures.response(error, problem.headers)


async def _bug(request: Request, _: Exception) -> Response:
    # The server logs it with its traceback.
    records.of(request.scope).fail("internal")
    return failures.response(
        errors.RequestError("internal", "", "The gateway failed unexpectedly; its log has the reason")
    )
