"""`tritonllm render`: writes the Triton model repository of endpoints."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tritonllm import render as renderer

Files = Annotated[list[Path], typer.Argument(metavar="ENDPOINT.yaml", help="Files with LLMEndpoints.")]
Weights = Annotated[str, typer.Option(metavar="DIR", help="Root of the weights, as the engine will see it.")]
VllmVersion = Annotated[
    str | None,
    typer.Option(metavar="V", help="vLLM to check `engine.args` against.", show_default="the installed one"),
]


def render(
    endpoints: Files,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to write.")],
    weights: Weights = "/weights",
    vllm_version: VllmVersion = None,
) -> None:
    """Write the model repository that Triton serves for these endpoints.

    The same endpoints give the same bytes. A repository that was rendered before is replaced as a whole; any
    other directory that holds something is left alone.

        tritonllm render chat.yaml -o repository
    """
    from tritonllm import files
    from tritonllm import render as renderer

    repository = renderer.repository(files.load(endpoints, vllm_version=vllm_version), weights=weights)
    if not replaceable(output):
        raise typer.BadParameter(
            f"{output} holds something else than a rendered repository; name another directory, or empty it",
            param_hint="--output",
        )
    write(repository, output)
    typer.echo(f"{output}: {', '.join(sorted(repository))}")


def replaceable(directory: Path) -> bool:
    """Whether nothing is lost when a repository takes this place: all that is there was rendered."""
    if not directory.exists():
        return True
    return directory.is_dir() and all(_rendered(entry / "config.pbtxt") for entry in directory.iterdir())


def _rendered(config: Path) -> bool:
    return config.is_file() and 'key: "spec_hash"' in config.read_text(errors="replace")


def write(repository: renderer.Repository, directory: Path) -> None:
    """Writes a repository beside its place and then puts it there, so that nobody reads half of one."""
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
