"""Triton's API as the supervisor uses it: load, unload, index, config, readiness, and a question to a model.

Everything but a load goes over the standard library's HTTP client, which closes each connection: an open one would use
up tritonserver's exit timeout. A load goes over gRPC.
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

# The API itself answers within milliseconds; the rest is for a busy machine.
_QUICK_SECONDS = 5.0
# As for HTTP: never reach this machine through a proxy.
_CHANNEL = [("grpc.enable_http_proxy", 0)]
_PIPELINE_ANSWER = "[invalid_argument]"


class Refused(Exception):
    """Triton answered, but not with what was requested; the message is its reason."""


class Unreachable(Exception):
    """No answer. Raised as one of its two subclasses."""


class Gone(Unreachable):
    """Nothing listens, or the connection was lost: tritonserver has most likely ended."""


class TimedOut(Unreachable):
    """No answer in time: tritonserver may just be slow."""


class ControlApi:
    """A client for one tritonserver."""

    def __init__(self, url: str, grpc: str, metrics_url: str, lock: api_lock.Lock = api_lock.OPEN) -> None:
        """Creates a client.

        Args:
            url: URL of the HTTP port, without a trailing slash.
            grpc: host and port of gRPC.
            metrics_url: URL of the metrics port, without a trailing slash.
            lock: secret of the server's API.
        """
        self._lock = lock
        self._url = url
        self._grpc = grpc
        self._metrics_url = metrics_url
        # A proxy of the environment is meant for other hosts.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def live(self) -> bool:
        """Whether the server answers at all."""
        return self._succeeds("/v2/health/live")

    def ready(self, model: str) -> bool:
        """Whether Triton reports the model as ready; 24.10 also does so when its process is dead."""
        return self._succeeds(f"/v2/models/{model}/ready")

    def index(self, seconds: float = _QUICK_SECONDS) -> dict[str, str]:
        """State (`READY`, `UNLOADING`, `UNAVAILABLE`, …) of each model that was ever loaded.

        Args:
            seconds: timeout.

        Raises:
            Refused: the answer is an error, or not Triton's.
            Unreachable: no answer.
        """
        body = self._fetch_path("/v2/repository/index", {}, seconds)
        try:
            rows = json.loads(body)
            if not isinstance(rows, list):
                raise TypeError
            # A model that was never loaded has no state.
            return {row["name"]: row["state"] for row in rows if row.get("state")}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused(
                f"unexpected answer to a request for the repository index: {body[:200]!r}"
            ) from None

    def config(self, model: str, seconds: float = _QUICK_SECONDS) -> str:
        """The configuration that the model runs with, as JSON.

        Args:
            model: its name.
            seconds: timeout.
        """
        return self._fetch_path(f"/v2/models/{model}/config", None, seconds).decode(errors="replace")

    def load(self, model: str, config: str | None = None, seconds: float | None = None) -> None:
        """Loads a model and waits until it is ready.

        Args:
            model: its name.
            config: its complete configuration as JSON, in place of the one in the repository.
            seconds: timeout; None waits for ever.

        Raises:
            Refused: it can't be loaded.
            TimedOut: it is still being loaded; Triton can't abandon a load.
            Gone: tritonserver ended.
        """
        try:
            # Over HTTP, Triton loads on a thread that also serves streams: those would stall and lose text.
            # workaround: W5
            with triton.InferenceServerClient(self._grpc, channel_args=_CHANNEL) as client:
                client.load_model(model, self._lock.grpc_headers(), config=config, client_timeout=seconds)
        except InferenceServerException as error:
            kinds = {"StatusCode.UNAVAILABLE": Gone, "StatusCode.DEADLINE_EXCEEDED": TimedOut}
            raise kinds.get(error.status() or "", Refused)(error.message()) from None

    def unload(self, model: str, seconds: float = _QUICK_SECONDS) -> None:
        """Begins to unload a model, which completes when its requests have.

        Args:
            model: its name.
            seconds: timeout.
        """
        self._fetch_path(f"/v2/repository/models/{model}/unload", {}, seconds)

    def ask_guardrail(self, model: str, seconds: float) -> None:
        """Sends an empty text to a guardrail model, about which it need not ask a classifier.

        Args:
            model: its name.
            seconds: timeout.

        Raises:
            Refused: the model answered with an error.
            Unreachable: no answer.
        """
        tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": [""]}
        self._fetch_path(f"/v2/models/{model}/infer", {"inputs": [tensor]}, seconds)

    def ask_pipeline(self, model: str, seconds: float) -> None:
        """Sends a request without a prompt to a pipeline, which rejects it without asking its engine.

        Args:
            model: its name.
            seconds: timeout.

        Raises:
            Refused: any answer but the expected error.
            Unreachable: no answer.
        """
        try:
            answer = self._fetch_path(f"/v2/models/{model}/generate", {}, seconds)
        except Refused as error:
            if _PIPELINE_ANSWER not in str(error):
                raise
        else:
            raise Refused(f"it accepted a request without a prompt: {answer[:200]!r}")

    def total(self, metrics: Iterable[str], seconds: float = _QUICK_SECONDS) -> float:
        """The sum of all series of these metrics; a missing metric counts as 0.

        Args:
            metrics: names, without labels.
            seconds: timeout.

        Raises:
            Refused: the answer is an error, or no metrics.
            Unreachable: no answer.
        """
        body = self._fetch(urllib.request.Request(f"{self._metrics_url}/metrics"), seconds)
        try:
            return total(body.decode(), metrics)
        except ValueError as error:
            raise Refused(f"unexpected answer to a request for metrics: {error}") from None

    def _succeeds(self, path: str) -> bool:
        try:
            self._fetch_path(path, None, _QUICK_SECONDS)
        except (Refused, Unreachable):
            return False
        return True

    def _fetch_path(self, path: str, body: Any, seconds: float) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        return self._fetch(urllib.request.Request(self._url + path, data, self._lock.http_headers()), seconds)

    def _fetch(self, request: urllib.request.Request, seconds: float) -> bytes:
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(_reason(error)) from None
        except (OSError, http.client.HTTPException) as error:
            # urllib wraps a timeout of the connection attempt, but not one of the answer.
            cause = getattr(error, "reason", error)
            if isinstance(cause, TimeoutError):
                raise TimedOut(f"{request.full_url}: no answer within {seconds:g} s") from None
            raise Gone(f"{request.full_url}: {error or type(error).__name__}") from None


def total(exposition: str, metrics: Iterable[str]) -> float:
    """Sums series of metrics in Prometheus' text format.

    Args:
        exposition: the text.
        metrics: names of metrics, without labels.

    Raises:
        ValueError: a value is not a number.
    """
    selected = frozenset(metrics)
    lines = (line.rpartition(" ") for line in exposition.splitlines() if not line.startswith("#"))
    return sum(float(value) for series, _, value in lines if series.partition("{")[0] in selected)


def instances(config: str) -> int:
    """The number of processes of a model.

    Args:
        config: its configuration as JSON.

    Raises:
        Refused: it is not a configuration.
    """
    try:
        return sum(group["count"] for group in json.loads(config)["instance_group"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"not a model configuration: {error!r}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return f"HTTP {error.code}"
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or f"HTTP {error.code}"
