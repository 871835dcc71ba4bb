"""What a user can choose about `tritonllm serve`; the CLI fills it in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tritonllm.serve import report

STOP_SECONDS = 20.0
"""What an orderly end takes at most beyond `drain_seconds`: models end, then all processes, then the rest."""


@dataclass(frozen=True)
class Options:
    """The options of one supervisor.

    Attributes:
        files: endpoint files, or directories of them; read again while serving, so that `/readyz` knows what is still wanted.
        weights: root of the weights volume, an absolute path.
        host: address to listen on; `0.0.0.0` in a pod.
        http_port: Triton's HTTP.
        grpc_port: Triton's gRPC.
        metrics_port: Triton's metrics.
        health_port: `/readyz` and `/livez` of the supervisor.
        drain_seconds: how long requests may take to end after the first SIGTERM or Ctrl-C.
        api_secret_file: holds the secret that locks the dangerous parts of Triton's API; None leaves them open.
        allow_direct_engine: let clients call the engine models, around the guardrails.
        logs: what tritonserver and its models print: `file` keeps it, `stderr` passes it on, as a pod should.
        reporter: told how things go.
    """

    files: tuple[Path, ...]
    weights: str
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    health_port: int = 8003
    drain_seconds: float = 10
    api_secret_file: Path | None = None
    allow_direct_engine: bool = False
    logs: Literal["file", "stderr"] = "file"
    reporter: report.Reporter = field(default_factory=lambda: report.Lines(sys.stderr))

    @property
    def local_host(self) -> str:
        """The address at which the supervisor itself reaches what listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    def url(self, port: int) -> str:
        """Where a client on this machine finds a port."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{port}"

    def ports(self) -> Iterator[tuple[str, int]]:
        """Each port with the option of the command line that changes it."""
        yield "--http-port", self.http_port
        yield "--grpc-port", self.grpc_port
        yield "--metrics-port", self.metrics_port
        yield "--health-port", self.health_port
