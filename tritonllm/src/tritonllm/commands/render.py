"""`tritonllm render`: writes the Triton model repository of endpoints."""

from __future__ import annotations

import enum
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tritonllm import render as renderer

Files = Annotated[list[Path], typer.Argument(metavar="ENDPOINT.yaml", help="Files with LLMEndpoints.")]
Weights = Annotated[str, typer.Option(metavar="DIR", help="Root of the weights in the engine's file system.")]
VllmVersion = Annotated[
    str | None,
    typer.Option(
        metavar="V", help="Version of vLLM to check `engine.args` against.", show_default="the installed one"
    ),
]


class Style(enum.StrEnum):
    """What is rendered."""

    endpoint = "endpoint"
    ensemble = "ensemble"


def render(
    endpoints: Files,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Output directory.")],
    weights: Weights = "/weights",
    vllm_version: VllmVersion = None,
    style: Annotated[
        Style,
        typer.Option(
            help="ensemble: the file has parameters of TensorRT-LLM's ensemble; see docs/tensorrt-llm.md."
        ),
    ] = Style.endpoint,
) -> None:
    """Write Triton's model repository for these endpoints.

    The output is reproducible, byte for byte. A rendered repository is replaced as a whole; any other directory must
    be empty.

        tritonllm render chat.yaml -o repository
    """
    from tritonllm import files
    from tritonllm import render as renderer

    if style is Style.ensemble:
        repository = _ensemble(endpoints)
    else:
        repository = renderer.repository(files.load(endpoints, vllm_version=vllm_version), weights=weights)
    if not replaceable(output):
        raise typer.BadParameter(
            f"{output} is neither empty nor a rendered repository; choose another directory",
            param_hint="--output",
        )
    write(repository, output)
    typer.echo(f"{output}: {', '.join(sorted(repository))}")


def _ensemble(paths: Sequence[Path]) -> renderer.Repository:
    """The models of the ensemble that a file describes.

    Raises:
        files.Invalid: its parameters are wrong.
    """
    import pydantic

    from tritonllm import files, validation_errors
    from tritonllm.render import ensemble

    if len(paths) != 1:
        raise typer.BadParameter("an ensemble has one file of parameters", param_hint="ENDPOINT.yaml")
    try:
        parameters = ensemble.Ensemble.model_validate(files.load_document(paths[0]))
    except pydantic.ValidationError as error:
        found = validation_errors.problems(error, ensemble.Ensemble)
        raise files.Invalid([files.Problem(str(paths[0]), *problem) for problem in found]) from None
    return ensemble.repository(parameters)


def replaceable(directory: Path) -> bool:
    """Whether a directory can be replaced without losing anything: it is empty, or a rendered repository."""
    if not directory.exists():
        return True
    return directory.is_dir() and all(_rendered(entry / "config.pbtxt") for entry in directory.iterdir())


def _rendered(config: Path) -> bool:
    return config.is_file() and 'key: "spec_hash"' in config.read_text(errors="replace")


def write(repository: renderer.Repository, directory: Path) -> None:
    """Writes a repository into a temporary directory and renames it, so that no reader sees half of it."""
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as work:
        fresh = Path(work) / "fresh"
        fresh.mkdir()
        for model, contents in sorted(repository.items()):
            for path, content in contents.items():
                place = fresh / model / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        if directory.exists():
            shutil.move(directory, Path(work) / "old")
        fresh.rename(directory)
