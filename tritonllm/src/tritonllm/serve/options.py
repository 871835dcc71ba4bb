"""The options of `tritonllm serve`, filled in by the CLI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tritonllm import addresses, allow
from tritonllm.serve import report

STOP_SECONDS = 20.0
"""Maximum duration of a shutdown beyond `drain_seconds`: models end, then all processes, then shared memory is removed."""


LOAD_TIMEOUT = 1800.0
"""Default for `load_timeout`: what the chart's startup probe allows."""


@dataclass(frozen=True)
class Gateway:
    """Options of the gateway.

    Attributes:
        port: its port.
        workers: number of its processes.
        api_keys: file of the API keys; None has none.
        allow_anonymous: accept requests without a key on other addresses than the loopback.
        cors_origins: origins whose pages may use it.
    """

    port: int = 8080
    workers: int = 1
    api_keys: Path | None = None
    allow_anonymous: bool = False
    cors_origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """Options of the supervisor.

    Attributes:
        files: endpoint files, or directories of them; watched while serving, so that `/readyz` follows them.
        weights: root of the weights volume; an absolute path.
        host: address to listen on; `::` in a pod, which is every interface and both families of IP.
        pod_ip: address of the pod. With host `::`, Triton's HTTP and metrics listen on its family, because Triton's HTTP
            server has one family only; without it, on IPv6.
        http_port: Triton's HTTP.
        grpc_port: Triton's gRPC.
        metrics_port: Triton's metrics.
        health_port: the supervisor's `/readyz` and `/livez`.
        drain_seconds: maximum time for requests to complete after the first SIGTERM or Ctrl-C.
        load_timeout: maximum time for loading one model, in seconds.
        api_secret_file: contains the secret that locks the dangerous parts of Triton's API; None leaves them open.
        allow_direct_engine: let clients call the engine models, bypassing the guardrails.
        allow: what endpoints can use.
        upstream_keys: directory of the API keys of upstreams, a file each; None has none.
        gateway: of the gateway; None has none.
        runtime: the vLLM that the endpoints were checked against, as `vllm-VERSION`; None where none was given.
        logs: where the output of tritonserver and its models goes: `file` keeps it, `stderr` passes it on, as in a pod.
        reporter: receives progress reports.
    """

    files: tuple[Path, ...]
    weights: str
    host: str = "127.0.0.1"
    pod_ip: str = ""
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    health_port: int = 8003
    drain_seconds: float = 10
    load_timeout: float = LOAD_TIMEOUT
    api_secret_file: Path | None = None
    allow_direct_engine: bool = False
    # A user who serves their own files is author and owner.
    allow: allow.Allow = allow.EVERYTHING
    upstream_keys: Path | None = None
    gateway: Gateway | None = None
    runtime: str | None = None
    logs: Literal["file", "stderr"] = "file"
    reporter: report.Reporter = field(default_factory=lambda: report.Lines(sys.stderr))

    @property
    def http_host(self) -> str:
        """The address that Triton's HTTP and metrics listen on."""
        # workaround: W26
        return "0.0.0.0" if self.host == addresses.ANY and addresses.is_ipv4(self.pod_ip) else self.host

    @property
    def local_host(self) -> str:
        """The address by which the supervisor reaches what listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", addresses.ANY: "::1"}.get(self.http_host, self.http_host)

    def url(self, port: int) -> str:
        """The URL of a port for a client on this machine."""
        return f"http://{addresses.in_url(self.local_host)}:{port}"

    def ports(self) -> Iterator[tuple[str, int]]:
        """Each port with its command-line option."""
        yield "--http-port", self.http_port
        yield "--grpc-port", self.grpc_port
        yield "--metrics-port", self.metrics_port
        yield "--health-port", self.health_port
        if self.gateway:
            yield "--gateway-port", self.gateway.port
