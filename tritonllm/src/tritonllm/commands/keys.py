"""`tritonllm keys`: API keys of the gateway."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="API keys of the gateway.",
)


@app.callback()
def _keys() -> None:
    """Create API keys of the gateway."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key: in the file, in logs and in metrics.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENDPOINT",
            help="An endpoint that the key is valid for; can be repeated. Without it, all.",
        ),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, metavar="N")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens of prompts and answers.")
    ] = None,
    concurrent_requests: Annotated[int | None, typer.Option(min=1, metavar="N")] = None,
) -> None:
    """Create a key.

        tritonllm keys create team-a --models chat --requests-per-minute 60 >> keys.yaml

    Prints the key's entry for the key file on standard output, and the key itself on standard error. The entry has
    only the key's SHA-256: the key is not stored, and not shown again.
    """
    import io

    import ruamel.yaml

    from tritonllm import files
    from tritonllm.gateway import keys

    secret, sha256 = keys.create()
    limits = {
        "models": models or None,
        "requestsPerMinute": requests_per_minute,
        "tokensPerMinute": tokens_per_minute,
        "concurrentRequests": concurrent_requests,
    }
    document = {
        name: {"sha256": sha256, **{field: value for field, value in limits.items() if value is not None}}
    }
    _, problems = keys.parse(document)
    if problems:
        raise files.Invalid([files.Problem("", path, message) for path, message in problems])
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    text = io.StringIO()
    yaml.dump(document, text)
    typer.echo(text.getvalue(), nl=False)
    typer.echo(f"The API key `{name}`, which is not shown again:", err=True)
    typer.echo(secret, err=True)
