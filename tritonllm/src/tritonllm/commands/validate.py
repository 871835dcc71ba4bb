"""`tritonllm validate`: validates endpoint files, without a cluster or a GPU."""

from __future__ import annotations

import typer

from tritonllm.commands import render


def validate(endpoints: render.Files, vllm_version: render.VllmVersion = None) -> None:
    """Validate endpoints; reports every problem of every file at once.

        tritonllm validate examples/*.yaml

    A problem is reported as `file: field: message`, and the exit code is 2.
    """
    from tritonllm import files, versions
    from tritonllm.render import engine_args

    found = files.load(endpoints, vllm_version=vllm_version)
    _, warning = engine_args.table(vllm_version or versions.installed_version())
    if warning and any(endpoint.spec.engine.type == "vllm" for endpoint in found):
        typer.echo(f"warning: {warning}", err=True)
    for endpoint in found:
        typer.echo(f"{endpoint.name}: valid")
