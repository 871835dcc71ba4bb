"""The configurations of TensorRT-LLM's ensemble, whole, and what an author is told about wrong parameters."""

from __future__ import annotations

import pathlib
from typing import Any

import pydantic
import pytest
from google.protobuf import text_format
from typer.testing import CliRunner

from tritonllm import cli, files, validation_errors
from tritonllm.render import config, ensemble

HERE = pathlib.Path(__file__).parent
FILES = sorted((HERE / "ensembles").glob("*.yaml"))
LEAST = {"engine_dir": "/e", "tokenizer_dir": "/t", "triton_max_batch_size": 4}


def rendered(file: pathlib.Path) -> dict[str, bytes]:
    repository = ensemble.repository(ensemble.Ensemble.model_validate(files.load_document(file)))
    return {
        f"{model}/{path}": content for model, parts in repository.items() for path, content in parts.items()
    }


def models(**parameters: Any) -> dict[str, Any]:
    repository = ensemble.repository(ensemble.Ensemble.model_validate(LEAST | parameters))
    return {
        name: text_format.Parse(parts["config.pbtxt"].decode(), config.schema.ModelConfig())
        for name, parts in repository.items()
    }


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_renders_as_recorded(file: pathlib.Path, request: pytest.FixtureRequest) -> None:
    expected = HERE / "expected-ensembles" / file.stem
    found = rendered(file)
    if request.config.getoption("--golden-update"):
        for name, content in found.items():
            (expected / name).parent.mkdir(parents=True, exist_ok=True)
            (expected / name).write_bytes(content)
    recorded = {
        str(path.relative_to(expected)): path.read_bytes() for path in expected.rglob("*") if path.is_file()
    }
    assert found == recorded, "if this change is wanted: make golden"


def test_the_recorded_files_use_every_parameter() -> None:
    given = {name for file in FILES for name in files.load_document(file)}
    assert given == set(ensemble.Ensemble.model_fields)


def test_the_document_names_every_parameter() -> None:
    page = (HERE.parents[2] / "docs" / "tensorrt-llm.md").read_text()
    assert [name for name in ensemble.Ensemble.model_fields if f"`{name}`" not in page] == []


def test_each_step_gets_tensors_that_its_model_has_and_an_earlier_step_or_the_caller_gives() -> None:
    found = models()
    whole = found["ensemble"]
    known = {tensor.name for tensor in whole.input}
    for step in whole.ensemble_scheduling.step:
        model = found[step.model_name]
        inputs = {tensor.name: tensor for tensor in model.input}
        assert set(step.input_map) <= set(inputs)
        assert set(step.input_map.values()) <= known
        assert {name for name, tensor in inputs.items() if not tensor.optional} <= set(step.input_map)
        assert set(step.output_map) <= {tensor.name for tensor in model.output}
        known |= set(step.output_map.values())
    assert {tensor.name for tensor in whole.output} <= known


def test_what_is_not_given_is_left_to_the_backend() -> None:
    engine = models(gpu_device_ids=[0, 2])["tensorrt_llm"]
    assert set(engine.parameters) == {
        "FORCE_CPU_ONLY_INPUT_TENSORS",
        "executor_worker_path",
        "gpt_model_path",
        "gpt_model_type",
        "gpu_device_ids",
        "kind",
        "renderer",
        "spec_hash",
    }
    assert engine.parameters["gpu_device_ids"].string_value == "0,2"
    assert (engine.backend, engine.max_batch_size, engine.model_transaction_policy.decoupled) == (
        "tensorrtllm",
        4,
        True,
    )


@pytest.mark.parametrize(
    ("parameters", "place", "message"),
    [
        ({"engine_dir": "engines"}, "engine_dir", "must be an absolute path"),
        ({"triton_max_batch_size": 0}, "triton_max_batch_size", "must be at least 1"),
        ({"decoupled": True}, "decoupled", "did you mean `decoupled_mode`?"),
        ({"decoupled_mode": "true"}, "decoupled_mode", "must be true or false"),
        ({"batching_strategy": "V2"}, "batching_strategy", "must be one of `inflight_fused_batching`, `V1`"),
        ({"kv_cache_free_gpu_mem_fraction": 90}, "kv_cache_free_gpu_mem_fraction", "must be at most 1"),
        ({"decoding_mode": "beam_search"}, "", "needs `max_beam_width` of 2 or more"),
        ({"max_beam_width": 2, "decoding_mode": "top_k"}, "", "needs `decoding_mode: beam_search`"),
        ({"cross_kv_cache_fraction": 0.5}, "", "needs `encoder_engine_dir`"),
        ({"guided_decoding_backend": "xgrammar"}, "", "need each other"),
    ],
)
def test_wrong_parameters_are_refused_with_what_is_right(
    parameters: dict[str, Any], place: str, message: str
) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        ensemble.Ensemble.model_validate(LEAST | parameters)
    [(found, said)] = validation_errors.problems(caught.value, ensemble.Ensemble)
    assert found == place
    assert message in said


def test_the_command_writes_an_ensemble_and_replaces_it(tmp_path: pathlib.Path) -> None:
    command = ["render", "--style", "ensemble", str(FILES[0]), "-o", str(tmp_path / "repository")]
    for _ in range(2):
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 0, result.output
    made = {path.name for path in (tmp_path / "repository").iterdir()}
    assert made == {"ensemble", "postprocessing", "preprocessing", "tensorrt_llm"}
    assert CliRunner().invoke(cli.app, [*command, str(FILES[1])]).exit_code == 2
