"""The HTTP port of the probes: runs each at most once a second, and answers with its sentences."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from tritonllm import addresses
from tritonllm.serve import threads
from tritonllm.serve.health import ProbeResult

# One result serves a kubelet, a load balancer and a person that probe at the same time.
_CACHED_SECONDS = 1.0


class Cached:
    """Runs a probe at most once a second, and never twice at the same time."""

    def __init__(self, question: Callable[[], ProbeResult], seconds: float = _CACHED_SECONDS) -> None:
        self._question = question
        self._seconds = seconds
        self._lock = threading.Lock()
        self._answer: ProbeResult | None = None
        self._until = 0.0

    def __call__(self) -> ProbeResult:
        """The result, at most a second old."""
        with self._lock:
            if self._answer is None or time.monotonic() >= self._until:
                self._answer = self._question()
                self._until = time.monotonic() + self._seconds
            return self._answer


class Port:
    """The HTTP server of the probes.

    Attributes:
        number: the port it listens on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        questions: Mapping[str, Callable[[], ProbeResult]],
        on_failure: Callable[[Exception], object],
    ) -> None:
        """Starts to listen.

        Args:
            host: address.
            port: number; 0 for any free port.
            questions: the probe behind each path.
            on_failure: called if the server can't go on.

        Raises:
            OSError: the port is in use.
        """
        self._server = _server(host, port, questions)
        self.number: int = self._server.server_address[1]
        self._thread = threads.start("health", self._server.serve_forever, on_failure)

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(
    host: str, port: int, questions: Mapping[str, Callable[[], ProbeResult]]
) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5  # for clients that connect and send nothing

        def do_GET(self) -> None:
            question = questions.get(self.path.partition("?")[0])
            if question is None:
                self._answer(HTTPStatus.NOT_FOUND, [f"not found; try {' or '.join(questions)}"])
                return
            try:
                well, sentences = question()
            except Exception as error:  # a probe must be answered, whatever breaks
                well, sentences = False, [f"the probe failed: {error}"]
            self._answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, sentences)

        def _answer(self, status: HTTPStatus, sentences: Sequence[str]) -> None:
            body = "".join(f"{sentence}\n" for sentence in sentences).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing: a probe every few seconds is no news."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        request_queue_size = 64

        def server_bind(self) -> None:
            if host == addresses.ANY:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    return Server((host, port), Handler)
