"""What is seen of every request: `X-Request-Id`, access log, metrics and span, by one middleware around everything.

The log has a line of JSON for each request, on the logger `tritonllm.gateway.access`, without any text of prompts or
answers. While an answer is streamed, this middleware only looks whether the first byte has been sent.
"""

from __future__ import annotations

import datetime
import logging
import re
import secrets
import time
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonllm.gateway import error_responses, records, tracing
from tritonllm.gateway.metrics import Metrics

log = logging.getLogger(__name__)
access_log = logging.getLogger("tritonllm.gateway.access")

CLIENT_LEFT = 499
"""Status in log and metrics of a request whose client left before it was answered, as in nginx's logs."""

UNMATCHED = "unmatched"
"""Route of a path that no route has: paths that callers make up must not become labels of metrics."""

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(message)s"},
        "log": {"format": "%(asctime)s %(levelname)s gateway: %(message)s"},
    },
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"},
        "stderr": {"class": "logging.StreamHandler", "formatter": "log", "stream": "ext://sys.stderr"},
    },
    "loggers": {
        "tritonllm": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "tritonllm.gateway.access": {"handlers": ["stdout"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}
"""Logging of the gateway's processes, as `logging.config` has it: the access log goes to stdout, all else to stderr."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# Probes several times a second, and scrapes, are not worth a line. The program that probes says what is wrong.
_QUIET = frozenset({"/health", "/metrics"})


class Observation:
    """ASGI middleware that gives each request a `Record`, and reports it when it has ended."""

    def __init__(
        self, app: ASGIApp, routes: Starlette, metrics: Metrics, spans: tracing.Tracing | None
    ) -> None:
        """Wraps an application.

        Args:
            app: what handles the requests.
            routes: the routes, for the templates of their paths.
            metrics: counts the requests.
            spans: records spans; None if they are not collected.
        """
        self._app = app
        self._routes = routes
        self._metrics = metrics
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _record(scope)
        records.put(scope, record)  # pyright: ignore[reportArgumentType]
        span = self._spans.start(record) if self._spans else None
        identifier = (b"x-request-id", record.request_id.encode())
        began = time.perf_counter()
        status = 0
        first_byte: float | None = None

        async def observed(message: Message) -> None:
            nonlocal status, first_byte
            if first_byte is None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message["headers"] = [*message.get("headers", ()), identifier]
                elif message.get("body"):
                    first_byte = time.perf_counter() - began
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, observed)
        except Exception:
            log.exception("request %s failed unexpectedly", record.request_id)
            record.error = record.error or "internal"
            if status == 0:
                await error_responses.respond(observed, "internal", "The gateway failed unexpectedly")
            elif status != 500:
                # The answer ends too early. The server closes the connection, so that the client notices.
                raise
            # Otherwise the routes have answered. Raised again, the error would close a connection in good order.
        finally:
            self._metrics.running.dec()
            seconds = time.perf_counter() - began
            route, status = self._route(scope), status or CLIENT_LEFT
            self._metrics.ended(record, route, status, seconds, first_byte)
            if route not in _QUIET:
                access_log.info("%s", _line(scope, record, route, status, seconds, first_byte))
            if self._spans:
                self._spans.end(span, record, scope["method"], route, status)

    def _route(self, scope: Scope) -> str:
        found = scope.get("route")
        if found is None:
            # Refused before it was routed.
            routes = self._routes.routes
            found = next((each for each in routes if each.matches(scope)[0] is not Match.NONE), None)
        return found.path if isinstance(found, Route) else UNMATCHED


def _record(scope: Scope) -> records.Record:
    record = records.Record()
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            record.request_id = given if _REQUEST_ID.fullmatch(given) else ""
        elif name == b"traceparent":
            record.traceparent = tracing.valid_traceparent(value.decode("latin-1"))
    record.request_id = record.request_id or f"req_{secrets.token_hex(16)}"
    return record


def _line(
    scope: Scope, record: records.Record, route: str, status: int, seconds: float, first_byte: float | None
) -> str:
    client = scope.get("client")
    found: dict[str, Any] = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "method": scope["method"],
        "route": route,
        "status": status,
        "seconds": round(seconds, 6),
        "first_byte_seconds": None if first_byte is None else round(first_byte, 6),
        "endpoint": record.endpoint,
        "key": record.key_name,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "finish_reason": record.finish_reason,
        "error": record.error,
        "request_id": record.request_id,
        "traceparent": record.traceparent,
        "client": client[0] if client else "",
    }
    return orjson.dumps(found).decode()
