"""The tritonserver process: its command line, its output and its exit status."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tritonllm.serve import binaries, log_tail, threads
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
        f"--http-address={options.host}",
        f"--http-port={options.http_port}",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        # Without a grace period, so that requests in flight complete on the old connection, however long they take.
        f"--grpc-max-connection-age={round(1000 * CONNECTION_AGE_SECONDS)}",
        f"--metrics-address={options.host}",
        f"--metrics-port={options.metrics_port}",
        f"--allow-gpu-metrics={str(gpu).lower()}",
        "--log-format=ISO8601",
        *lock.arguments(),
    ]


class Server:
    """One tritonserver process, in a session of its own so that a terminal's Ctrl-C does not reach it.

    Attributes:
        pid: its process id.
        log: the newest lines that it and its models printed.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], output: BinaryIO) -> None:
        """Starts it.

        Args:
            command: what `arguments` returns.
            environment: the complete environment.
            output: receives everything that it and its models print.

        Raises:
            OSError: it can't be started.
        """
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.log = log_tail.LogTail()
        self._reader = threads.start("triton-output", lambda: self._read(output), self._unread)

    def exit_status(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """Ends it at once, but not its models: those may wait for ever for its answer about a metric."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Waits a moment for the rest of the output, as models may outlive tritonserver."""
        self._reader.join(timeout=0.3)

    def _read(self, output: BinaryIO) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line.decode(errors="replace").rstrip())
            with contextlib.suppress(OSError, ValueError):
                output.write(line)
                output.flush()

    def _unread(self, error: Exception) -> None:
        # Without a reader its output would block it; the supervisor restarts it.
        self.log.append(f"reading the output of tritonserver failed: {error!r}")
        self._process.kill()
