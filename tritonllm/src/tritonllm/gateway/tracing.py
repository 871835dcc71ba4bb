"""OpenTelemetry spans of requests, with the attributes that its conventions define for generative AI.

Needs the extra `tritonllm[otel]`, and does nothing until OpenTelemetry's own environment variables name a collector:
`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Its packages are imported only then.
Attributes: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from tritonllm.gateway.records import Record

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
}

# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags; all zeros are invalid.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class NotInstalled(ValueError):
    """A collector is configured, but the packages that send spans are not installed."""


def valid_traceparent(value: str) -> str:
    """A `traceparent` header as it came, or the empty string if it is invalid."""
    return value if _TRACEPARENT.fullmatch(value) else ""


def configured(environment: Mapping[str, str]) -> bool:
    """Whether spans are to be sent.

    Args:
        environment: environment variables.

    Raises:
        NotInstalled: they are, and the extra is missing.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(
        map(environment.get, _ENDPOINTS)
    ):
        return False
    for package in _PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError:
            raise NotInstalled(
                f"{' or '.join(_ENDPOINTS)} is set, but {package} is not installed; pip install 'tritonllm[otel]'"
            ) from None
    return True


def from_environment(environment: Mapping[str, str]) -> Tracing | None:
    """What records spans and sends them; None if they are not to be sent. See `configured`."""
    if not configured(environment):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = environment.get("OTEL_SERVICE_NAME") or "tritonllm-gateway"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


class Tracing:
    """Records a span for each request."""

    def __init__(self, provider: Any) -> None:
        """Starts.

        Args:
            provider: an `opentelemetry.sdk.trace.TracerProvider`.
        """
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext

        self._provider = provider
        self._tracer = provider.get_tracer("tritonllm.gateway")
        self._trace = trace
        self._propagator = tracecontext.TraceContextTextMapPropagator()

    def start(self, record: Record) -> Any:
        """Starts the span of a request, as a child of the caller's; `record.traceparent` is then that of the span."""
        context = self._propagator.extract({"traceparent": record.traceparent})
        span = self._tracer.start_span("request", context=context, kind=self._trace.SpanKind.SERVER)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        record.traceparent = carrier["traceparent"]
        return span

    def end(self, span: Any, record: Record, method: str, route: str, status: int) -> None:
        """Ends the span of a request."""
        operation = _OPERATIONS.get(route)
        span.update_name(
            f"{operation} {record.endpoint}" if operation and record.endpoint else f"{method} {route}"
        )
        span.set_attributes(attributes(record, method, route, status))
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Sends what has not been sent yet."""
        self._provider.shutdown()


def attributes(record: Record, method: str, route: str, status: int) -> dict[str, Any]:
    """The attributes of a request's span; pure."""
    found: dict[str, Any] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "tritonllm.request_id": record.request_id,
    }
    if record.key_name:
        found["tritonllm.key"] = record.key_name
    if record.error:
        found["error.type"] = record.error
    if operation := _OPERATIONS.get(route):
        found["gen_ai.operation.name"] = operation
        found["gen_ai.provider.name"] = "tritonllm"
    if record.endpoint:
        found["gen_ai.request.model"] = record.endpoint
    if record.finish_reason:
        found |= {
            "gen_ai.response.model": record.endpoint,
            "gen_ai.response.finish_reasons": [record.finish_reason],
            "gen_ai.usage.input_tokens": record.input_tokens,
            "gen_ai.usage.output_tokens": record.output_tokens,
        }
    return found
