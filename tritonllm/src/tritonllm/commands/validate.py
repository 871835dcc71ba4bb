"""`tritonllm validate`: validates endpoint files, without a cluster or a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonllm.commands import importing, options, render

if TYPE_CHECKING:
    from tritonllm import api

_FAILED = 1


def validate(
    endpoints: render.Files,
    weights: Annotated[Path, options.weights_root("Root of the weights, for --gpu-memory.")],
    vllm_version: render.VllmVersion = None,
    gpu_memory: importing.GpuMemory = None,
) -> None:
    """Validate endpoints; reports every problem of every file at once.

        tritonllm validate examples/*.yaml

    A problem is reported as `file: field: message`, and the exit code is 2. Warnings do not change the exit code.

    With --gpu-memory, also says whether weights that are on this machine fit GPUs of that size; if they do not, the exit
    code is 1.
    """
    from tritonllm import files, guardrails, versions

    gpu_bytes = importing.quantity(gpu_memory)

    found = files.load(endpoints, vllm_version=vllm_version)
    version = vllm_version or versions.installed_version()
    warnings = dict.fromkeys(endpoint.spec.engine.definition.warning(version) for endpoint in found)
    for warning in filter(None, warnings):
        typer.echo(f"warning: {warning}", err=True)
    for endpoint in found:
        policy = endpoint.spec.guardrails
        for direction, rules in (("input", policy.input), ("output", policy.output)):
            for text in guardrails.warnings(rules):
                typer.echo(f"warning: {endpoint.name}: spec.guardrails.{direction}: {text}", err=True)
        typer.echo(f"{endpoint.name}: valid")
    if gpu_bytes is not None and not _fit(found, weights, gpu_bytes, version):
        raise typer.Exit(_FAILED)


def _fit(endpoints: list[api.LLMEndpoint], root: Path, gpu_bytes: int, version: str | None) -> bool:
    """Says of each endpoint whether it fits; False if one does not."""
    from tritonllm.sizing import endpoints as sizes_of
    from tritonllm.sizing import memory
    from tritonllm.weights import endpoints as weights_of
    from tritonllm.weights import layout

    good = True
    for endpoint in weights_of.pinned(layout.Cache(root), endpoints):
        if not endpoint.spec.engine.gpus:
            continue
        sized = sizes_of.size(endpoint, str(root), gpu_bytes, version)
        if isinstance(sized, str):
            typer.echo(f"{endpoint.name}: whether it fits is unknown: {sized}")
            continue
        typer.echo(f"{endpoint.name}: {memory.sentence(sized.fit)}")
        changes = memory.advice(sized.model, sized.fit)
        if changes:
            typer.echo(f"{endpoint.name}: would fit: {' or '.join(changes)}")
        good = good and sized.fit.fits is not False
    return good
