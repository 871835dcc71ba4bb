"""The tritonserver process: its command line, its output, its end."""

from __future__ import annotations

import collections
import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from tritonllm import api
from tritonllm.serve import binaries
from tritonllm.serve.api_lock import Lock
from tritonllm.serve.options import Options

CONNECTION_AGE_SECONDS = 10.0
"""When a gRPC client is asked to connect anew, so that it finds pods that came and leaves those that go."""
CONNECTION_AGE_VARIES = 0.1
"""By which share gRPC varies that (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md)."""

_TAIL_LINES = 200


def arguments(
    options: Options,
    endpoints: Iterable[api.LLMEndpoint],
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
        endpoints: what is served, for the number of threads.
        binary: the program.
        repository: the model repository.
        backends: the directory of the backends, None for the program's own.
        region_prefix: what the names of its shared memory regions start with.
        gpu: whether there is one to measure.
        lock: of its API.
    """
    return [
        str(binary.executable),
        f"--model-repository={repository}",
        *([f"--backend-directory={backends}"] if backends else []),
        # Models are loaded one by one, by name: a failure then is one model's, not the server's.
        "--model-control-mode=explicit",
        "--exit-on-error=false",
        # Configurations are complete; completing them would start every model's process twice.
        "--disable-auto-complete-config",
        f"--backend-config=python,thread-pool-size={thread_pool_size(endpoints)}",
        f"--backend-config=python,shm-region-prefix-name={region_prefix}",
        f"--http-address={options.host}",
        f"--http-port={options.http_port}",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        # Without a grace period: what is under way on the old connection is finished there, however long it takes.
        f"--grpc-max-connection-age={round(1000 * CONNECTION_AGE_SECONDS)}",
        f"--metrics-address={options.host}",
        f"--metrics-port={options.metrics_port}",
        f"--allow-gpu-metrics={str(gpu).lower()}",
        "--log-format=ISO8601",
        *lock.arguments(),
    ]


def thread_pool_size(endpoints: Iterable[api.LLMEndpoint]) -> int:
    """Threads of the Python backend (default: 32). The pool belongs to a model, so the largest endpoint decides."""
    return max([api.LEAST_THREADS, *(endpoint.spec.threads for endpoint in endpoints)])


class Server:
    """One tritonserver process, in a session of its own so that a terminal's Ctrl-C does not reach it."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: BinaryIO) -> None:
        """Starts it.

        Args:
            command: what `arguments` returns.
            environment: complete.
            log: gets all that it and its models print.

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
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._reader = threading.Thread(target=self._read, args=(log,), name="triton-output", daemon=True)
        self._reader.start()

    def exit_status(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def tail(self, lines: int) -> list[str]:
        """The last lines that it or a model of its printed."""
        return list(self._tail)[-lines:]

    def kill(self) -> None:
        """Ends it at once, but not its models: those may wait for ever for its answer to a metric."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Waits a moment for the rest of the output: models may still write when tritonserver is gone."""
        self._reader.join(timeout=0.3)

    def _read(self, log: BinaryIO) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._tail.append(line.decode(errors="replace").rstrip())
            with contextlib.suppress(OSError, ValueError):
                log.write(line)
                log.flush()
