"""The gateway beside tritonserver: its command line, and its process, which is restarted whenever it ends or hangs."""

from __future__ import annotations

import http
import http.client
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tritonllm.serve import child, threads
from tritonllm.serve.options import Options
from tritonllm.serve.report import Reporter

_SHOWN_LINES = 5
_SHOWN_BYTES = 1000
_PROBE_SECONDS = 5.0
_PROBE_PAUSE = 0.5
# As for models: longer than anything that a healthy one does without answering.
_HUNG_SECONDS = 30.0
# It takes a second to start.
_START_SECONDS = 60.0
_LONGEST_DELAY = 10.0

RUN_DIRECTORY = "--run-directory"
"""Option that names the run; processes of a gateway are found by it."""


def arguments(options: Options, directory: Path) -> list[str]:
    """The command line of the gateway.

    Args:
        options: addresses and ports.
        directory: of the run.
    """
    gateway = options.gateway
    assert gateway is not None
    return [
        sys.executable,
        "-m",
        "tritonllm",
        "gateway",
        f"{RUN_DIRECTORY}={directory}",
        f"--host={options.host}",
        f"--port={gateway.port}",
        f"--workers={gateway.workers}",
        f"--drain-seconds={options.drain_seconds}",
        *([f"--api-keys={gateway.api_keys}"] if gateway.api_keys else []),
        *(["--allow-anonymous"] if gateway.allow_anonymous else []),
        *(f"--cors-origin={origin}" for origin in gateway.cors_origins),
    ]


class Gateway:
    """The gateway's process, as long as `serve` runs. A thread starts it, asks it whether it is ready, and restarts it.

    Args:
        command: its command line.
        url: of its port.
        environment: of the process.
        output: receives what it prints.
        report: receives its problems.
    """

    def __init__(
        self,
        command: list[str],
        url: str,
        environment: Mapping[str, str],
        output: BinaryIO,
        report: Reporter,
    ) -> None:
        self._command = command
        self._url = urllib.parse.urlsplit(url)
        self._environment = environment
        self._output = output
        self._report = report
        self._process: child.Child | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._failures = 0
        self._answered = False
        self._answered_at = 0.0
        self._problem: str | None = "the gateway is starting"
        self._broken: str | None = None
        self._thread = threads.start("gateway", self._run, self._broke)

    @property
    def session(self) -> int | None:
        """The session of its processes; None if it does not run."""
        process = self._process
        return process.pid if process else None

    def problem(self) -> str | None:
        """Why it can't be asked; None if it can."""
        return self._broken or self._problem

    def broken(self) -> str | None:
        """Why it is not restarted any more; None as long as its thread runs."""
        return self._broken

    def drain(self) -> None:
        """Lets it complete its requests and accept no others; it ends by itself then."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def running(self) -> bool:
        """Whether its process runs."""
        process = self._process
        return process is not None and process.exit_status() is None

    def _run(self) -> None:
        while not self._stopping.wait(self._turn()):
            pass

    def _turn(self) -> float:
        """Does what is due; returns the seconds until the next turn."""
        process = self._process
        if process is None:
            with self._lock:
                if not self._stopping.is_set():
                    self._start()
            return _PROBE_PAUSE
        death = process.death(_SHOWN_LINES)
        if death is not None:
            return self._bury(death)
        try:
            self._problem = self._probe()
            self._answered, self._answered_at = True, time.monotonic()
        except OSError as error:
            limit = _HUNG_SECONDS if self._answered else _START_SECONDS
            if time.monotonic() - self._answered_at > limit:
                self._problem = f"the gateway has not answered for {limit:.0f} s: {error}"
                self._report.problem(f"{self._problem}\nrestarting it")
                process.kill()
        return _PROBE_PAUSE

    def _start(self) -> None:
        self._answered, self._answered_at = False, time.monotonic()
        self._process = child.Child("the gateway", self._command, self._environment, self._output)

    def _bury(self, death: str) -> float:
        self._process = None
        # One that has worked starts again at once.
        self._failures = 0 if self._answered else self._failures + 1
        delay = min(2.0**self._failures, _LONGEST_DELAY) if self._failures else 0.0
        if not self._stopping.is_set():
            self._problem = death
            self._report.problem(f"{death}\nrestarting it{f' in {delay:.0f} s' if delay else ''}")
        return delay

    def _probe(self) -> str | None:
        """Asks it whether it is ready.

        Returns:
            Why not; None if it is.

        Raises:
            OSError: it does not answer.
        """
        connection = http.client.HTTPConnection(
            self._url.hostname or "", self._url.port, timeout=_PROBE_SECONDS
        )
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            body = answer.read(_SHOWN_BYTES).decode(errors="replace")
        except http.client.HTTPException as error:
            raise OSError(f"not HTTP: {error!r}") from None
        finally:
            connection.close()
        return None if answer.status == http.HTTPStatus.OK else f"the gateway is not ready: {body}"

    def _broke(self, error: Exception) -> None:
        self._broken = f"looking after the gateway failed unexpectedly: {error!r}"
        self._report.problem(self._broken)
