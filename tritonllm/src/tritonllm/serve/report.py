"""How the supervisor tells a person, or a pod's log, what it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TextIO


@dataclass(frozen=True)
class Serving:
    """What can be asked now, and where.

    Attributes:
        http: URL of Triton's HTTP port.
        grpc: host and port of Triton's gRPC.
        metrics: URL of the metrics.
        health: URL of the supervisor's port.
        endpoints: names of the endpoints that are ready.
        failed: names of those that are not.
    """

    http: str
    grpc: str
    metrics: str
    health: str
    endpoints: tuple[str, ...]
    failed: tuple[str, ...]

    def request(self) -> str:
        """A request to paste into a shell."""
        body = '{"text_input": "What is the capital of France?"}'
        return f"curl -s {self.http}/v2/models/{self.endpoints[0]}/generate -d '{body}'"


class Reporter(Protocol):
    """Told how things go; called from several threads."""

    def step(self, text: str) -> None:
        """Something went as it should, or still goes on."""
        ...

    def ready(self, serving: Serving) -> None:
        """All loading is over and something can be asked."""
        ...

    def problem(self, text: str) -> None:
        """Something is wrong; the text says what, where and what to do."""
        ...


class Lines:
    """One plain line an event: for logs, and for a terminal that is none."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, text: str) -> None:
        """See Reporter."""
        self._line(text)

    def ready(self, serving: Serving) -> None:
        """See Reporter."""
        self._line(f"ready: {', '.join(serving.endpoints)} at {serving.http}")
        self._line(f"try: {serving.request()}")

    def problem(self, text: str) -> None:
        """See Reporter."""
        self._line(f"problem: {text}")

    def _line(self, text: str) -> None:
        # A log that is gone (a closed terminal) is no reason to stop serving.
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass
