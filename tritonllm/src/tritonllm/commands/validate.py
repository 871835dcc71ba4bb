"""`tritonllm validate`: validates endpoint files, without a cluster or a GPU."""

from __future__ import annotations

import typer

from tritonllm.commands import render


def validate(endpoints: render.Files, vllm_version: render.VllmVersion = None) -> None:
    """Validate endpoints; reports every problem of every file at once.

        tritonllm validate examples/*.yaml

    A problem is reported as `file: field: message`, and the exit code is 2. Warnings do not change the exit code.
    """
    from tritonllm import files, guardrails, versions

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
