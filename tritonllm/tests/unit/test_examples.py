"""Every example is an endpoint that this version takes, and renders to models that Triton can read."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from tritonllm import files, render
from tritonllm.render import config

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"llama3-70b.yaml", "simulated.yaml", "smollm2.yaml"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_valid_for_every_vllm_that_is_known(example: Path) -> None:
    for version in ("0.24.0", "0.32.0"):
        assert files.load([example], vllm_version=version)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_renders_to_models_that_triton_can_read(example: Path) -> None:
    endpoints = files.load([example])

    repository = render.repository(endpoints, weights="/weights")

    assert set(repository) == {model for endpoint in endpoints for model in endpoint.models}
    for name, contents in repository.items():
        model = text_format.Parse(contents["config.pbtxt"].decode(), config.schema.ModelConfig())
        assert model.name == name
        assert "1/model.py" in contents


def test_examples_can_be_served_together() -> None:
    names = [endpoint.name for endpoint in files.load(EXAMPLES)]
    assert len(names) == len(set(names)) >= len(EXAMPLES)
