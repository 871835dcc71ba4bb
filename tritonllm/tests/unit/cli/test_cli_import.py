"""`tritonllm import`: an endpoint from a repository or a directory, with its reasons, or one sentence why not."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing

import hub_server
from tritonllm import cli, files

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
    "torch_dtype": "bfloat16",
}
TEMPLATE = '{{ messages }}<tool_call>{"name": <function-name>}</tool_call></think>'


def weights(gigabytes: float, padding: int = 0) -> bytes:
    """A file whose header says so many bytes of weights, and which has a few."""
    names = {
        "model.layers.0.weight": {
            "dtype": "BF16",
            "shape": [int(gigabytes * 1e9 / 2)],
            "data_offsets": [0, 0],
        }
    }
    header = json.dumps(names | {"__metadata__": {"padding": "x" * padding}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(300_000)


MODEL = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
    "model-00001-of-00002.safetensors": weights(8),
    "README.md": b"# Qwen",
}


def run(*arguments: str | Path) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(cli.app, ["import", *map(str, arguments)])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_server.HubServer() as served:
        served.add("org/Qwen3-8B", MODEL)
        yield served


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "Qwen3-8B"
    path.mkdir()
    for name, content in MODEL.items():
        (path / name).write_bytes(content)
    return path


def test_a_repository_becomes_an_endpoint_that_is_valid(hub: hub_server.HubServer, tmp_path: Path) -> None:
    output = tmp_path / "chat.yaml"
    result = run("hf:org/Qwen3-8B", "--gpu-memory", "80Gi", "--endpoint-url", hub.url, "-o", output)
    assert result.exit_code == 0, result.output
    (endpoint,) = files.load([output])
    assert endpoint.name == "qwen3-8b"
    assert endpoint.spec.pool == "llm"
    assert endpoint.spec.model is not None
    assert (endpoint.spec.model.repo, endpoint.spec.model.revision) == ("org/Qwen3-8B", "main")
    assert endpoint.spec.prompt.format == "Chat"
    assert endpoint.spec.engine.args == {
        "max_model_len": 16384,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
    }
    assert (
        "max_model_len 16384: config.json says 40960, of which 16384 fits 28 concurrent requests"
        in result.stderr
    )
    for line in result.stderr.splitlines():
        assert f"  # {line}\n" in output.read_text()


def test_of_weights_only_headers_are_read(hub: hub_server.HubServer) -> None:
    hub.add("org/long", MODEL | {"model-00002-of-00002.safetensors": weights(8, padding=150_000)})
    result = run("hf:org/long", "--gpu-memory", "80Gi", "--endpoint-url", hub.url)
    assert result.exit_code == 0, result.output
    ranges = [request.headers["range"] for request in hub.asked("*.safetensors")]
    assert ranges[:2] == ["bytes=0-99999", "bytes=0-99999"]
    assert len(ranges) == 3
    assert ranges[2].startswith("bytes=100000-150")
    assert not hub.asked("*README.md")


def test_a_directory_is_read_offline(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run(directory, "--gpu-memory", "80Gi", "--name", "chat", "--pool", "other")
    assert result.exit_code == 0, result.output
    assert f"path: {directory}" in result.stdout
    assert "pool: other" in result.stdout


def test_several_gpus_share_the_model_as_far_as_its_heads_divide(directory: Path) -> None:
    assert "tensor_parallel_size: 4" in run(directory, "--gpus", "4", "--gpu-memory", "24Gi").stdout
    uneven = run(directory, "--gpus", "3", "--gpu-memory", "24Gi")
    assert "tensor_parallel_size 2: 3 GPUs can't share 32 attention heads evenly" in uneven.stderr


def test_without_the_memory_of_a_gpu_nothing_is_assumed(directory: Path) -> None:
    result = run(directory)
    assert result.exit_code == 0
    assert "max_model_len:" not in result.stdout.replace("# max_model_len", "")
    assert "give --gpu-memory" in result.stderr


def test_what_does_not_fit_says_what_would_and_fails(directory: Path) -> None:
    result = run(directory, "--gpu-memory", "8Gi")
    assert result.exit_code == 1
    assert "does not fit 1 × 8 GiB" in result.stderr
    assert "tensor_parallel_size 2" in result.stderr


def test_a_model_without_a_chat_template_gets_whole_prompts(directory: Path) -> None:
    (directory / "tokenizer_config.json").write_text("{}")
    result = run(directory)
    assert "format: Chat" not in result.stdout
    assert "tool_call_parser" not in result.stdout


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"],
            "is a LoRA adapter and no model",
        ),
        (["config.json", "model-Q4.gguf"], "only as GGUF"),
        (["config.json", "pytorch_model.bin"], "can run code when it is loaded"),
        (["model.safetensors"], "no config.json"),
        (["config.json"], "no weights"),
    ],
)
def test_what_can_not_be_served_is_refused_in_one_sentence(
    names: list[str], said: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(weights(1) if name.endswith(".safetensors") else b"{}")
    result = run(tmp_path, "--name", "chat")
    assert result.exit_code == 29 if said != "no config.json" else 28
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_the_hub_does_not_give_is_said_in_one_sentence(hub: hub_server.HubServer) -> None:
    hub.add("org/gated", MODEL, access="gated")
    for repo, code, said in [("gated", 20, "gated"), ("none", 21, "not found")]:
        result = run(f"hf:org/{repo}", "--endpoint-url", hub.url)
        assert result.exit_code == code
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("source", ["Qwen/Qwen3-8B", "hf:nothing", "hf:a/b--c"])
def test_what_names_no_model_is_a_mistake(source: str) -> None:
    result = run(source)
    assert result.exit_code == 2
    assert source.removeprefix("hf:") in " ".join(result.stderr.split())


def test_validate_says_the_same_of_a_file_whose_weights_are_here(directory: Path, tmp_path: Path) -> None:
    output = tmp_path / "chat.yaml"
    run(directory, "--gpu-memory", "80Gi", "-o", output)
    said = run(directory, "--gpu-memory", "80Gi").stderr
    validate = ["validate", str(output), "--gpu-memory"]
    result = typer.testing.CliRunner().invoke(cli.app, [*validate, "80Gi"])
    assert result.exit_code == 0, result.output
    sentence = result.stdout.splitlines()[-1].removeprefix("qwen3-8b: ")
    assert sentence.partition(":")[0] == "fits 28 concurrent requests of 16384 tokens on 1 × 80 GiB"
    assert sentence.partition(":")[0] in said
    small = typer.testing.CliRunner().invoke(cli.app, [*validate, "8Gi"])
    assert small.exit_code == 1
    assert "qwen3-8b: does not fit 1 × 8 GiB" in small.stdout


def test_validate_sizes_an_endpoint_of_transformers(directory: Path, tmp_path: Path) -> None:
    output = tmp_path / "chat.yaml"
    output.write_text(
        f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: reference}}
spec:
  pool: llm
  model: {{path: {directory}}}
  engine: {{type: transformers, args: {{max_model_len: 16384, gpu_memory_utilization: 0.5}}}}
  guardrails: {{}}
"""
    )
    result = typer.testing.CliRunner().invoke(cli.app, ["validate", str(output), "--gpu-memory", "80Gi"])
    assert result.exit_code == 0, result.output
    assert "concurrent requests of 16384 tokens on 1 × 80 GiB: each GPU gives 40 GiB" in result.stdout


def test_validate_says_what_it_could_not_know(hub: hub_server.HubServer, tmp_path: Path) -> None:
    output = tmp_path / "chat.yaml"
    run("hf:org/Qwen3-8B", "--endpoint-url", hub.url, "-o", output)
    command = ["validate", str(output), "--gpu-memory", "80Gi", "--weights", str(tmp_path)]
    result = typer.testing.CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0
    assert "qwen3-8b: whether it fits is unknown: its weights are not in " in result.stdout
    wrong = typer.testing.CliRunner().invoke(cli.app, [*command[:2], "--gpu-memory", "80GB"])
    assert wrong.exit_code == 2
