"""Rendered repositories in a plain tritonserver, without `tritonllm serve`: they must not serve unguarded."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from integration import server
from tritonllm import paths
from tritonllm.ipc import run_token
from tritonllm.render import ensemble
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
def tritonserver(
    repository: Path,
    log: Path,
    models: Sequence[str] = ("chat", "chat-engine", "chat-guardrail"),
    **environment: str,
) -> Iterator[str]:
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
            return all(httpx.get(f"{url}/v2/models/{model}/ready").is_success for model in models)
        return False

    try:
        server.until(ready, 60, lambda: log.read_text(errors="replace")[-4000:])
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
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


# In place of the models that come with TensorRT-LLM: bytes for tokens, and an engine that reverses them.
STUB = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.answer(request)) for request in requests]

    def answer(self, request):
        given = {{each.name(): each.as_numpy() for each in request.inputs()}}
        found = {answer}
        return [pb_utils.Tensor(name, np.asarray(value, kind)) for name, (value, kind) in found.items()]
"""
ANSWERS = {
    "preprocessing": """{
        "INPUT_ID": ([list(given["QUERY"][0][0])], np.int32),
        "REQUEST_INPUT_LEN": ([[len(given["QUERY"][0][0])]], np.int32),
        "REQUEST_OUTPUT_LEN": (given["REQUEST_OUTPUT_LEN"], np.int32),
    }""",
    "tensorrt_llm": """{
        "output_ids": (given["input_ids"][:, None, ::-1], np.int32),
        "sequence_length": ([[min(given["input_ids"].shape[1], int(given["request_output_len"][0]))]], np.int32),
    }""",
    "postprocessing": """{
        "OUTPUT": ([[bytes(given["TOKENS_BATCH"][0][0][: given["SEQUENCE_LENGTH"][0][0]].tolist())]], object),
    }""",
}


def test_triton_connects_the_models_of_an_ensemble(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    least = {"engine_dir": "/e", "tokenizer_dir": "/t", "triton_max_batch_size": 4, "decoupled_mode": False}
    made = ensemble.repository(ensemble.Ensemble.model_validate(least))
    for name, files in made.items():
        (repository / name / "1").mkdir(parents=True)
        config = files["config.pbtxt"].replace(b'"tensorrtllm"', b'"python"')
        (repository / name / "config.pbtxt").write_bytes(config)
        if name in ANSWERS:
            (repository / name / "1" / "model.py").write_text(STUB.format(answer=ANSWERS[name]))
    with tritonserver(repository, tmp_path / "log", tuple(made)) as url:
        body = {"text_input": "falcon", "max_tokens": 4}
        assert httpx.post(f"{url}/v2/models/ensemble/generate", json=body).json()["text_output"] == "nocl"
