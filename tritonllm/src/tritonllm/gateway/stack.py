"""The gateway as one ASGI application: the routes of OpenAI's API, the page, metrics, and the middleware around them.

observation    request id, access log, metrics, span: of every request, however it ends
CORS           for origins that were named
access         keys and limits
body limit
routes
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tritonllm.gateway import access, bodies, litellm, page, tracing
from tritonllm.gateway.keys import KeyFile
from tritonllm.gateway.limits import Limiter
from tritonllm.gateway.metrics import Metrics
from tritonllm.gateway.observation import Observation
from tritonllm.gateway.upstream import Upstream


@dataclasses.dataclass(frozen=True)
class Settings:
    """What surrounds the routes.

    Attributes:
        keys: the API keys; None lets everybody in, see `access.refusal_to_listen`.
        local_only: without keys, answer only what this machine itself asks, see `access.LocalOnly`.
        workers: number of processes that share the limits of keys.
        max_body_bytes: maximum size of a request's body.
        cors_origins: origins whose pages may read answers, such as `https://app.example.com`; `*` for all.
        spans: records OpenTelemetry spans; None if they are not collected.
    """

    keys: KeyFile | None = None
    local_only: bool = False
    workers: int = 1
    max_body_bytes: int = bodies.MAX_BYTES
    cors_origins: Sequence[str] = ()
    spans: tracing.Tracing | None = None


def build(
    routes: Starlette, upstream: Upstream, settings: Settings, metrics: Metrics | None = None
) -> ASGIApp:
    """Adds everything else to the routes.

    Args:
        routes: OpenAI's API.
        upstream: for the routes that are added.
        settings: what surrounds them.
        metrics: counts requests; None for new ones.
    """
    metrics = metrics or Metrics()
    routes.router.routes += [Route("/metrics", metrics.answer), litellm.route(upstream), *page.routes()]
    app: ASGIApp = bodies.BodyLimit(routes, settings.max_body_bytes)
    if settings.keys is not None:
        metrics.keys(settings.keys)
        settings.keys.on_change = metrics.keys
        app = access.Access(app, settings.keys, Limiter(settings.workers, time.monotonic))
    elif settings.local_only:
        app = access.LocalOnly(app, settings.cors_origins)
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id", "X-Guardrail-Policy"],
        )
    return _Background(Observation(app, routes, metrics, settings.spans), settings)


class _Background:
    """Runs what has to run beside the requests, from the server's start to its end."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        async with self._running():
            await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        following = asyncio.create_task(self._settings.keys.follow()) if self._settings.keys else None
        try:
            yield
        finally:
            if following is not None:
                following.cancel()
            if self._settings.spans is not None:
                await asyncio.to_thread(self._settings.spans.close)
