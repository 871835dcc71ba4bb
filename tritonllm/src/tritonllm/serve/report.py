"""How the supervisor reports progress to a terminal or a pod's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TextIO

_QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Serving:
    """Addresses and endpoints of a running server.

    Attributes:
        gateway: URL of the gateway; None if there is none.
        http: URL of Triton's HTTP port.
        grpc: host and port of Triton's gRPC.
        metrics: URL of the Prometheus metrics.
        health: URL of the probes.
        endpoints: names of the endpoints that are ready.
        failed: names of the endpoints that could not be loaded.
        classifiers: names of the endpoints that generate no text.
    """

    http: str
    grpc: str
    metrics: str
    health: str
    endpoints: tuple[str, ...]
    failed: tuple[str, ...]
    gateway: str | None = None
    classifiers: frozenset[str] = frozenset()

    def examples(self) -> list[str]:
        """Lines that show how to send a request to the first endpoint that generates text."""
        name = next((name for name in self.endpoints if name not in self.classifiers), None)
        if name is None:
            return []
        if self.gateway is None:
            return [f"Try: {self._triton_request(name)}"]
        body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "{_QUESTION}"}}]}}'
        return [
            f"OpenAI API: {self.gateway}/v1",
            f"Chat page:  {self.gateway}/",
            "Try:",
            f"  curl -s {self.gateway}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            "or in Python:",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{self.gateway}/v1", api_key="none")',
            f'  print(client.chat.completions.create(model="{name}", messages='
            f'[{{"role": "user", "content": "{_QUESTION}"}}]).choices[0].message.content)',
        ]

    def _triton_request(self, name: str) -> str:
        body = '{"text_input": "What is the capital of France?"}'
        return f"curl -s {self.http}/v2/models/{name}/generate -d '{body}'"


class Reporter(Protocol):
    """Receives progress reports, from several threads."""

    def step(self, text: str) -> None:
        """Reports normal progress."""
        ...

    def ready(self, serving: Serving) -> None:
        """Reports that loading is complete and at least one endpoint is served."""
        ...

    def problem(self, text: str) -> None:
        """Reports a problem: what went wrong, where, and what to do."""
        ...


class Lines:
    """Writes one line per event; used when stderr is not a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, text: str) -> None:
        """See Reporter."""
        self._line(text)

    def ready(self, serving: Serving) -> None:
        """See Reporter."""
        self._line(f"ready: {', '.join(serving.endpoints)} at {serving.http}")
        for line in serving.examples():
            self._line(line)

    def problem(self, text: str) -> None:
        """See Reporter."""
        self._line(f"problem: {text}")

    def _line(self, text: str) -> None:
        # Keep serving when the log is gone, for example after the terminal was closed.
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass
