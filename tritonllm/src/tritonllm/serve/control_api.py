"""Triton's API as the supervisor uses it: load, unload, index, config, readiness, one question.

For all but a load the standard library's HTTP client is enough, and it closes each connection: one that is left
open would use up tritonserver's time to exit. A load goes over gRPC: Triton's HTTP port works on it in a thread
that streams of clients share, so they would stand still until it is done, and then miss a part of their text.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tritonllm.serve import api_lock

# Answers of the API itself come in milliseconds; a busy machine gets this long.
_QUICK_SECONDS = 5.0
# As for HTTP: a proxy of the environment is not for this machine.
_CHANNEL = [("grpc.enable_http_proxy", 0)]


class Refused(Exception):
    """Triton answered that it won't; the text is its reason."""


class Unreachable(Exception):
    """No answer: tritonserver is gone, or too busy for the time given."""


class ControlApi:
    """Asks one tritonserver."""

    def __init__(self, url: str, grpc: str, metrics_url: str, lock: api_lock.Lock = api_lock.OPEN) -> None:
        """Makes a client.

        Args:
            url: of the HTTP port, without a slash at the end.
            grpc: host and port of gRPC.
            metrics_url: of the metrics port, like `url`.
            lock: of the server.
        """
        self._lock = lock
        self._url = url
        self._grpc = grpc
        self._metrics_url = metrics_url
        # A proxy of the environment is for the world outside, not for this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def live(self) -> bool:
        """Whether the server answers at all."""
        return self._yes("/v2/health/live")

    def ready(self, model: str) -> bool:
        """Whether Triton calls the model ready; 24.10 says so of a model whose process is dead, too."""
        return self._yes(f"/v2/models/{model}/ready")

    def index(self) -> dict[str, str]:
        """State (`READY`, `UNLOADING`, `UNAVAILABLE`, …) of each model that was ever loaded."""
        rows = json.loads(self._ask("/v2/repository/index", {}))
        return {row["name"]: row["state"] for row in rows if "state" in row}

    def config(self, model: str) -> str:
        """The configuration that the model runs with, as JSON."""
        return self._ask(f"/v2/models/{model}/config").decode()

    def load(self, model: str, config: str | None = None) -> None:
        """Loads a model and waits until it is ready, however long that takes.

        Args:
            model: its name.
            config: its complete configuration as JSON, in place of the one in the repository.

        Raises:
            Refused: it can't be loaded.
            Unreachable: tritonserver ended.
        """
        try:
            with triton.InferenceServerClient(self._grpc, channel_args=_CHANNEL) as client:
                client.load_model(model, self._lock.grpc_headers(), config=config)
        except InferenceServerException as error:
            kind = Unreachable if error.status() == "StatusCode.UNAVAILABLE" else Refused
            raise kind(error.message()) from None

    def unload(self, model: str) -> None:
        """Starts to unload a model; it ends when the model's requests have."""
        self._ask(f"/v2/repository/models/{model}/unload", {})

    def question(self, guardrail: str, seconds: float) -> None:
        """Asks a guardrail model about a harmless text.

        Raises:
            Refused: the model answered with an error.
            Unreachable: it did not answer in time.
        """
        tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": ["ok"]}
        self._ask(f"/v2/models/{guardrail}/infer", {"inputs": [tensor]}, seconds=seconds)

    def total(self, metrics: Iterable[str], seconds: float = _QUICK_SECONDS) -> float:
        """The sum of all series of these metrics; a metric that is not there counts as 0."""
        request = urllib.request.Request(f"{self._metrics_url}/metrics")
        return total(self._fetch(request, seconds).decode(), metrics)

    def _yes(self, path: str) -> bool:
        try:
            self._ask(path)
        except (Refused, Unreachable):
            return False
        return True

    def _ask(self, path: str, body: Any = None, seconds: float = _QUICK_SECONDS) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        return self._fetch(urllib.request.Request(self._url + path, data, self._lock.http_headers()), seconds)

    def _fetch(self, request: urllib.request.Request, seconds: float) -> bytes:
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(_reason(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{request.full_url}: {error or type(error).__name__}") from None


def total(exposition: str, metrics: Iterable[str]) -> float:
    """Adds up series of a Prometheus text.

    Args:
        exposition: the text.
        metrics: names of metrics, without labels.
    """
    wanted = frozenset(metrics)
    lines = (line.rpartition(" ") for line in exposition.splitlines() if not line.startswith("#"))
    return sum(float(value) for series, _, value in lines if series.partition("{")[0] in wanted)


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return f"HTTP {error.code}"
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or f"HTTP {error.code}"
