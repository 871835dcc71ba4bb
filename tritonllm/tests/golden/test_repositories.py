"""Rendered repositories, whole, as files that a reviewer can read."""

from __future__ import annotations

import pathlib

import pytest
from google.protobuf import text_format

from tritonllm import files, render
from tritonllm.render import config

HERE = pathlib.Path(__file__).parent
SPECS = sorted((HERE / "specs").glob("*.yaml"))


def rendered(spec: pathlib.Path) -> dict[str, bytes]:
    repository = render.repository(files.load([spec]), weights="/weights")
    # The models' code is a file of this repository already, the same in every endpoint.
    return {
        f"{model}/{path}": content
        for model, parts in repository.items()
        for path, content in parts.items()
        if not path.endswith(".py")
    }


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_renders_as_recorded(spec: pathlib.Path, request: pytest.FixtureRequest) -> None:
    expected = HERE / "expected" / spec.stem
    found = rendered(spec)
    if request.config.getoption("--golden-update"):
        for path in expected.rglob("*"):
            if path.is_file():
                path.unlink()
        for name, content in found.items():
            (expected / name).parent.mkdir(parents=True, exist_ok=True)
            (expected / name).write_bytes(content)
    recorded = {
        str(path.relative_to(expected)): path.read_bytes() for path in expected.rglob("*") if path.is_file()
    }
    assert found == recorded, "if this change is wanted: make golden"


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_every_config_is_one_that_triton_can_read(spec: pathlib.Path) -> None:
    for name, content in rendered(spec).items():
        if name.endswith("config.pbtxt"):
            model = text_format.Parse(content.decode(), config.schema.ModelConfig())
            assert model.name == name.split("/")[0]
            assert model.parameters["spec_hash"].string_value.startswith("v1:")
