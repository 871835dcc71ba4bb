"""The gateway's own metrics, at `/metrics`: requests by route, endpoint, status and key, their times and tokens.

They are in a registry of their own. With several workers each writes its numbers to files in a directory, and any of
them answers for all. The workers have to be new processes that find the directory in their environment, because
prometheus-client decides when it is imported how it keeps numbers.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import psutil
from prometheus_client import multiprocess
from starlette.requests import Request
from starlette.responses import Response

from tritonllm.gateway.keys import KeyFile
from tritonllm.gateway.records import Record

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

# From the first text of a small model to a long answer of a large one, in seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

FAMILIES = {
    "tritonllm_gateway_requests_total": "Requests by route, endpoint, HTTP status and API key",
    "tritonllm_gateway_requests_running": "Requests in progress",
    "tritonllm_gateway_request_seconds": "Seconds from a request's arrival to the end of its answer",
    "tritonllm_gateway_first_byte_seconds": "Seconds from a request's arrival to the first byte of its answer's body",
    "tritonllm_gateway_input_tokens_total": "Tokens of prompts by endpoint and API key",
    "tritonllm_gateway_output_tokens_total": "Tokens of answers by endpoint and API key",
    "tritonllm_gateway_api_keys": "API keys in use; 0 without a key file",
    "tritonllm_gateway_api_keys_valid": "1 if the key file could be read when it last changed, otherwise 0",
}
"""The names of the metrics and what they count."""


@contextlib.contextmanager
def shared_between_workers(parent: str) -> Iterator[None]:
    """Makes the workers that are started within the block share their metrics.

    Args:
        parent: directory for the files; empty for the one of temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="tritonllm-gateway-metrics-", dir=parent or None) as directory:
        os.environ[_DIRECTORY] = directory
        try:
            yield
        finally:
            del os.environ[_DIRECTORY]


def _forget_dead_workers(directory: str) -> None:
    """Removes the gauges of workers that have been killed, so that what they were doing is not counted for ever."""
    for file in Path(directory).glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            multiprocess.mark_process_dead(pid, directory)


class Metrics:
    """The metrics of this process, and those of all workers in what `scrape` returns."""

    def __init__(self) -> None:
        if _DIRECTORY in os.environ:
            # Another worker takes the place of one that has ended.
            _forget_dead_workers(os.environ[_DIRECTORY])
        self.registry = prometheus_client.CollectorRegistry()
        self._requests = self._counter("requests_total", "route", "endpoint", "status", "key")
        self._input = self._counter("input_tokens_total", "endpoint", "key")
        self._output = self._counter("output_tokens_total", "endpoint", "key")
        self._seconds = self._histogram("request_seconds")
        self._first_byte = self._histogram("first_byte_seconds")
        self.running = self._gauge("requests_running", "livesum")
        self._keys = self._gauge("api_keys", "livemax")
        self._valid = self._gauge("api_keys_valid", "livemin")
        self._valid.set(1)

    def ended(
        self, record: Record, route: str, status: int, seconds: float, first_byte: float | None
    ) -> None:
        """Counts a request.

        Args:
            record: what is known of it.
            route: template of its path.
            status: HTTP status.
            seconds: from its arrival to the end of its answer.
            first_byte: seconds from its arrival to the first byte of the answer's body; None without a body.
        """
        self._requests.labels(route, record.endpoint, str(status), record.key_name).inc()
        self._seconds.labels(route, record.endpoint).observe(seconds)
        if first_byte is not None:
            self._first_byte.labels(route, record.endpoint).observe(first_byte)
        if record.input_tokens:
            self._input.labels(record.endpoint, record.key_name).inc(record.input_tokens)
        if record.output_tokens:
            self._output.labels(record.endpoint, record.key_name).inc(record.output_tokens)

    def keys(self, file: KeyFile) -> None:
        """Notes the state of the key file."""
        self._keys.set(len(file.keys.entries))
        self._valid.set(int(file.valid))

    def scrape(self) -> bytes:
        """The metrics in Prometheus' text format."""
        registry = self.registry
        if _DIRECTORY in os.environ:
            registry = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return prometheus_client.generate_latest(registry)

    async def answer(self, _: Request) -> Response:
        """Answers `GET /metrics`."""
        return Response(self.scrape(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    def _counter(self, name: str, *labels: str) -> prometheus_client.Counter:
        name, description = _family(name)
        return prometheus_client.Counter(name, description, labels, registry=self.registry)

    def _gauge(self, name: str, mode: str) -> prometheus_client.Gauge:
        name, description = _family(name)
        return prometheus_client.Gauge(name, description, registry=self.registry, multiprocess_mode=mode)  # pyright: ignore[reportArgumentType]

    def _histogram(self, name: str) -> prometheus_client.Histogram:
        name, description = _family(name)
        return prometheus_client.Histogram(
            name, description, ("route", "endpoint"), registry=self.registry, buckets=_BUCKETS
        )


def _family(name: str) -> tuple[str, str]:
    name = f"tritonllm_gateway_{name}"
    return name, FAMILIES[name]
