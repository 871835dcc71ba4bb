"""OpenTelemetry: the spans of requests, as a collector receives them."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import gateway_server
from fake_upstream import FakeUpstream
from tritonllm.gateway import records, stack, tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes spans over OTLP's HTTP.

    Attributes:
        spans: what it has received.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent: Any = trace_service_pb2.ExportTraceServiceRequest.FromString(body)  # pyright: ignore[reportAttributeAccessIssue]
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    yield found
    found.close()


def test_a_span_has_what_the_request_was_and_is_a_child_of_the_callers(collector: Collector) -> None:
    handed_on: list[str] = []

    async def ask(request: Request) -> Response:
        record = records.of(request.scope)
        handed_on.append(record.traceparent)
        record.ask("chat")
        record.finish(input_tokens=3, output_tokens=4, finish_reason="stop")
        return JSONResponse({})

    async def breaks(_: Request) -> Response:
        raise RuntimeError("a bug")

    routes = Starlette(
        routes=[Route("/v1/chat/completions", ask, methods=["POST"]), Route("/v1/breaks", breaks)]
    )
    settings = stack.Settings(spans=tracing.from_environment(os.environ))
    with gateway_server.serve(stack.build(routes, FakeUpstream("chat"), settings)) as served:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "abc"}
        assert httpx.post(f"{served.url}/v1/chat/completions", headers=headers).status_code == 200
        assert httpx.get(f"{served.url}/v1/breaks").status_code == 500
    # The end of the server sends what is left.
    span, broken = collector.spans
    assert span.name == "chat chat"
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == PARENT
    assert handed_on == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    found = {each.key: each.value for each in span.attributes}
    assert found["gen_ai.operation.name"].string_value == "chat"
    assert found["gen_ai.request.model"].string_value == "chat"
    assert found["gen_ai.usage.input_tokens"].int_value == 3
    assert found["gen_ai.usage.output_tokens"].int_value == 4
    assert [each.string_value for each in found["gen_ai.response.finish_reasons"].array_value.values] == ["stop"]  # fmt: skip
    assert found["http.route"].string_value == "/v1/chat/completions"
    assert found["http.response.status_code"].int_value == 200
    assert found["tritonllm.request_id"].string_value == "abc"
    assert broken.name == "GET /v1/breaks"
    assert broken.status.code == 2
    assert {each.key: each.value for each in broken.attributes}["error.type"].string_value == "internal"


@pytest.mark.parametrize(
    "environment", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}]
)  # fmt: skip
def test_nothing_is_recorded_unless_a_collector_is_named(environment: dict[str, str]) -> None:
    assert tracing.from_environment(environment) is None


def test_opentelemetry_is_not_imported_for_the_gateway_itself() -> None:
    code = "import sys, tritonllm.gateway.stack; assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


def test_a_collector_without_the_extra_is_a_mistake_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(tracing.NotInstalled, match=r"pip install 'tritonllm\[otel\]'"):
        tracing.from_environment({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318"})


@pytest.mark.parametrize(
    "value", ["", "x", f"00-{TRACE}-{PARENT}", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE.upper()}-{PARENT}-01"]
)  # fmt: skip
def test_an_invalid_traceparent_is_not_handed_on(value: str) -> None:
    assert tracing.valid_traceparent(value) == ""
