"""A rendered repository in a plain tritonserver, without `tritonllm serve`: it must not serve unguarded."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from integration import server
from tritonllm import paths
from tritonllm.ipc import run_token
from tritonllm.serve import binaries

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: chat}
spec:
  pool: test
  engine: {type: simulated, args: {reply: echo}}
  guardrails:
    output: [{name: bird, banned: {phrases: [falcon]}, action: Mask}]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    file, target = tmp_path / "chat.yaml", tmp_path / "repository"
    file.write_text(ENDPOINT)
    subprocess.run([sys.executable, "-m", "tritonllm", "render", file, "-o", target], check=True)
    return target


@contextlib.contextmanager
def tritonserver(repository: Path, log: Path, **environment: str) -> Iterator[str]:
    """A tritonserver with no more than a user would give it; the URL of its HTTP port."""
    binary = binaries.find()
    assert binary is not None
    http, grpc, metrics = server.free_ports(3)
    backends = binaries.prepare(binary, paths.cache())
    command = [
        str(binary.executable),
        f"--model-repository={repository}",
        *([f"--backend-directory={backends}"] if backends else []),
        "--disable-auto-complete-config",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc")),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITONLLM_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=binary.environment(clean) | environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{http}"

    def ready() -> bool:
        assert process.poll() is None
        with contextlib.suppress(httpx.TransportError):
            models = ("chat", "chat-engine", "chat-guardrail")
            return all(httpx.get(f"{url}/v2/models/{model}/ready").is_success for model in models)
        return False

    try:
        server.until(ready, 60, lambda: log.read_text(errors="replace")[-4000:])
        yield url
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answer(url: str, model: str) -> dict[str, str]:
    body = {"text_input": "One falcon"}
    return httpx.post(f"{url}/v2/models/{model}/generate", json=body, timeout=30).json()


def test_without_a_token_neither_the_engine_nor_its_endpoint_answers(
    repository: Path, tmp_path: Path
) -> None:
    with tritonserver(repository, tmp_path / "log") as url:
        assert answer(url, "chat-engine")["error"].startswith("[permission_denied] chat-engine has no token")
        assert answer(url, "chat")["error"].startswith("[unavailable]")


def test_only_the_explicit_variable_opens_the_engine(repository: Path, tmp_path: Path) -> None:
    with tritonserver(repository, tmp_path / "log", **{run_token.ALLOW_DIRECT: "true"}) as url:
        assert answer(url, "chat-engine")["error"].startswith("[permission_denied]")
    with tritonserver(repository, tmp_path / "log", **{run_token.ALLOW_DIRECT: "1"}) as url:
        assert "One falcon" in answer(url, "chat-engine")["text_output"]


def test_with_a_token_the_endpoint_answers_guarded_and_the_engine_refuses(
    repository: Path, tmp_path: Path
) -> None:
    with tritonserver(repository, tmp_path / "log", **{run_token.VARIABLE: "a secret of this server"}) as url:
        assert answer(url, "chat")["text_output"] == "One [REDACTED]"
        assert answer(url, "chat-engine")["error"].startswith(
            "[permission_denied] chat-engine answers its endpoint"
        )
