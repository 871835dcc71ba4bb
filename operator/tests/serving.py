"""Pods of the real Triton: each is `tritonllm serve` on a loopback address of its own, with Triton's own ports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

import kubelet
import model_control
import pool
from pool import until

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
"""That no fake pod takes."""


@contextlib.contextmanager
def pod(llm: pool.Pool, number: int, address: str, directory: Path) -> Iterator[None]:
    """One of a pool's pods begins to serve the first revision of its file.

    Args:
        llm: the pool.
        number: of the pod, from 0.
        address: of loopback, where nobody else listens on Triton's ports.
        directory: for its files.
    """
    name = until(lambda: sorted(pod["metadata"]["name"] for pod in llm.kubelet.pods())[number:])[0]
    data = (llm.get("configmaps", "llm-endpoints") or {})["data"]
    file, secret, log = directory / "revision-.yaml", directory / "secret", directory / f"{name}.log"
    file.write_text(data["revision-.yaml"])
    secret.write_text(model_control.SECRET)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tritonllm", "serve", file, f"--host={address}", "--logs=stderr"]
        process = subprocess.Popen(
            [*map(str, command), f"--api-secret-file={secret}"],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-4000:]
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://{address}:8003/readyz", trust_env=False).is_success
            return False

        until(ready, lambda: log.read_text()[-4000:], 120)
        llm.trouble(name, **kubelet.running(address))
        yield
    finally:
        process.terminate()
        process.wait(60)
