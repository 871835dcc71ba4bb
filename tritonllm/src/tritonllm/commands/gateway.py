"""`tritonllm gateway`: the OpenAI API in front of a Triton server that runs elsewhere, or of the pod that it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritonllm import addresses


def gateway(
    triton: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Triton, as host:port or grpc://host:port for gRPC, or http://host:port for HTTP.",
        ),
    ] = "localhost:8001",
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An endpoint to serve; repeatable.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; :: for all interfaces, of IPv4 and IPv6.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of processes.")] = 1,
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys, or a directory of such files; see `tritonllm keys`."),
    ] = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option("--allow-anonymous", help="Answer without API keys on other addresses than loopback."),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Origin whose pages may use the gateway; repeatable."),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Maximum time for requests to complete on Ctrl-C.")
    ] = 10,
    run_directory: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Serve the OpenAI API of endpoints whose Triton server runs elsewhere, until Ctrl-C.

        tritonllm gateway --triton triton.example.com:8001 --model chat

    `tritonllm serve` starts a gateway by itself.
    """
    from tritonllm.gateway import server

    if not run_directory and not model:
        raise typer.BadParameter("name at least one endpoint", param_hint="--model")
    try:
        server.run(
            server.Options(
                triton=triton,
                directory=run_directory,
                models=tuple(model or ()),
                host=addresses.available(host),
                port=port,
                workers=workers,
                drain_seconds=drain_seconds,
                api_keys=str(api_keys.absolute()) if api_keys else "",
                allow_anonymous=allow_anonymous,
                cors_origins=tuple(cors_origin or ()),
            )
        )
    except server.CannotStart as error:
        raise typer.BadParameter(str(error)) from None
