"""`/readyz` and `/livez`: the two questions of a kubelet, answered in sentences on a port of their own.

Triton's own answers won't do: 24.10 calls a model ready whose process is dead, and one model that failed to
load makes the whole server unready.
"""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus

from tritonllm.serve.model_states import ModelStatus, Phase

# Probes of a kubelet, a load balancer and a person may come together; one answer serves them all.
_CACHED_SECONDS = 1.0

NO_ENDPOINTS = "no endpoints yet; models that somebody else loads are served"

ProbeResult = tuple[bool, Sequence[str]]
"""Whether it is well, and the sentences that say why or why not."""


def readiness(
    required: Mapping[str, Sequence[str]],
    statuses: Mapping[str, ModelStatus],
    triton_ready: Callable[[str], bool],
    now: float,
    gating: Collection[str] = (),
) -> ProbeResult:
    """Whether requests should be sent here.

    What is on its way is waited for. What failed, or was unloaded by somebody, is not, as it would keep away
    requests for all others: it is named beside them, and decides only where nothing else is served, or where it is
    gating.

    Args:
        required: the models of each endpoint that shall be served.
        statuses: what the supervisor knows of each model.
        triton_ready: asks Triton about one model.
        now: the monotonic clock.
        gating: endpoints that other pods serve, which end when this one is ready.
    """
    if not statuses:
        return True, [NO_ENDPOINTS]
    served: list[str] = []
    absent: list[str] = []
    awaited: list[str] = []
    for name, models in required.items():
        lacking = awaited if name in gating else absent
        unready = {model: statuses[model] for model in models if not _ready(model, statuses, triton_ready)}
        if not unready:
            served += models
        for model, status in unready.items():
            if status.phase is Phase.LOADED:
                lacking.append(f"{model} was loaded, but Triton does not call it ready")
            else:
                (lacking if status.phase is Phase.FAILED else awaited).append(
                    f"{model} {status.sentence(now)}"
                )
        if unready and lacking is awaited:
            awaited.append(f"{name} is served by other pods, which stay until it is served here, too")
    if awaited or (absent and not served):
        return False, [*awaited, *absent]
    return True, [f"ready: {', '.join(sorted(served)) or 'nothing is wanted'}", *absent]


def _ready(model: str, statuses: Mapping[str, ModelStatus], triton_ready: Callable[[str], bool]) -> bool:
    # Somebody else may have loaded a model that had failed.
    return statuses[model].phase in (Phase.LOADED, Phase.FAILED) and triton_ready(model)


def liveness(
    index: Mapping[str, str],
    alive: Mapping[str, frozenset[int]],
    statuses: Mapping[str, ModelStatus],
    ask: Callable[[str], str | None],
) -> ProbeResult:
    """Whether what is loaded really works; if not, only a new start helps.

    Args:
        index: Triton's state of each model.
        alive: living processes by model.
        statuses: what the supervisor knows; what it is at work on is not held against it.
        ask: asks a guardrail model a question and returns what is wrong with the answer, if anything.
    """
    wrong: list[str] = []
    loaded = [model for model, state in index.items() if state == "READY"]
    for model in loaded:
        if model in statuses and statuses[model].phase in (Phase.LOADING, Phase.HEALING):
            continue
        if not alive.get(model):
            wrong.append(f"{model} has no living process")
        elif model.endswith("-guardrail") and (reason := ask(model)):
            wrong.append(f"{model} does not answer: {reason}")
    return (
        (False, wrong) if wrong else (True, [f"alive: {', '.join(sorted(loaded)) or 'tritonserver answers'}"])
    )


class Cached:
    """Asks at most once a second, and never twice at the same time."""

    def __init__(self, question: Callable[[], ProbeResult], seconds: float = _CACHED_SECONDS) -> None:
        self._question = question
        self._seconds = seconds
        self._lock = threading.Lock()
        self._answer: ProbeResult | None = None
        self._until = 0.0

    def __call__(self) -> ProbeResult:
        """The answer, new or almost new."""
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

    def __init__(self, host: str, port: int, questions: Mapping[str, Callable[[], ProbeResult]]) -> None:
        """Starts to listen.

        Args:
            host: address.
            port: number; 0 for any that is free.
            questions: path → what answers it.

        Raises:
            OSError: the port is taken.
        """
        self._server = _server(host, port, questions)
        self.number: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(
    host: str, port: int, questions: Mapping[str, Callable[[], ProbeResult]]
) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5  # a client that connects and says nothing

        def do_GET(self) -> None:
            question = questions.get(self.path.partition("?")[0])
            if question is None:
                self._answer(HTTPStatus.NOT_FOUND, [f"nothing here; ask {' or '.join(questions)}"])
                return
            try:
                well, sentences = question()
            except Exception as error:  # a probe must get an answer, whatever breaks
                well, sentences = False, [f"can't tell: {error}"]
            self._answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, sentences)

        def _answer(self, status: HTTPStatus, sentences: Sequence[str]) -> None:
            body = "".join(f"{sentence}\n" for sentence in sentences).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A probe every few seconds is no news."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        request_queue_size = 64

    return Server((host, port), Handler)
