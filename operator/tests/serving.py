"""Pods of the real Triton: each is `tritonllm serve` on a loopback address of its own, with Triton's own ports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

import model_control
import pool
from pool import until

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
"""That no fake pod takes."""


@contextlib.contextmanager
def pod(llm: pool.Pool, name: str, address: str, directory: Path) -> Iterator[None]:
    """A pod that serves the first revision of a pool's file.

    Args:
        llm: the pool.
        name: of the pod.
        address: of loopback, where nobody else listens on Triton's ports.
        directory: for its files.
    """
    deployment = llm.get("deployments", llm.pool)
    assert deployment is not None
    template = deployment["spec"]["template"]
    owner = pool.owned_by(llm.replica_set(deployment, "served"))
    metadata = template["metadata"] | {"name": name, "ownerReferences": [owner]}
    llm.create("pods", {"metadata": metadata, "spec": {"containers": template["spec"]["containers"]}})
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
        llm.trouble(name, **pool.running(address))
        yield
    finally:
        process.terminate()
        process.wait(60)
