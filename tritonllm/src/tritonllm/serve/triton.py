"""The command line of tritonserver."""

from __future__ import annotations

from pathlib import Path

from tritonllm.serve import binaries
from tritonllm.serve.api_lock import Lock
from tritonllm.serve.options import Options

CONNECTION_AGE_SECONDS = 10.0
"""Age at which gRPC clients are asked to reconnect, so that they find new pods and leave pods that drain."""
CONNECTION_AGE_VARIES = 0.1
"""Jitter of that age, as a fraction (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md)."""

THREAD_POOL_SIZE = 8
"""Threads of the Python backend for each model (default: 32). No thread waits inside Triton for an engine: leases and
requests return at once."""


def arguments(
    options: Options,
    binary: binaries.Binary,
    *,
    repository: Path,
    backends: Path | None,
    region_prefix: str,
    gpu: bool,
    lock: Lock,
) -> list[str]:
    """The command line of tritonserver.

    Args:
        options: addresses and ports.
        binary: the program.
        repository: the model repository.
        backends: the directory of the backends; None for the program's default.
        region_prefix: prefix for the names of its shared memory regions.
        gpu: whether there is a GPU to export metrics of.
        lock: secret of its API.
    """
    return [
        str(binary.executable),
        f"--model-repository={repository}",
        *([f"--backend-directory={backends}"] if backends else []),
        # Models are loaded one by one, by name, so that a failure concerns one model and not the server.
        "--model-control-mode=explicit",
        "--exit-on-error=false",
        # Configurations are complete; auto-completion would start the process of every model twice.
        "--disable-auto-complete-config",
        f"--backend-config=python,thread-pool-size={THREAD_POOL_SIZE}",
        f"--backend-config=python,shm-region-prefix-name={region_prefix}",
        f"--http-address={_evhtp(options.http_host)}",
        f"--http-port={options.http_port}",
        f"--grpc-address={f'[{options.host}]' if ':' in options.host else options.host}",
        f"--grpc-port={options.grpc_port}",
        # Without a grace period, so that requests in flight complete on the old connection, however long they take.
        f"--grpc-max-connection-age={round(1000 * CONNECTION_AGE_SECONDS)}",
        f"--metrics-address={_evhtp(options.http_host)}",
        f"--metrics-port={options.metrics_port}",
        f"--allow-gpu-metrics={str(gpu).lower()}",
        "--log-format=ISO8601",
        *lock.arguments(),
    ]


def _evhtp(host: str) -> str:
    """An address as libevhtp, the HTTP server in Triton, takes it."""
    return f"ipv6:{host}" if ":" in host else host
