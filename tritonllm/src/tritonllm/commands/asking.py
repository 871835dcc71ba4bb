"""Options shared by the commands that send requests to a server."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer


class Protocol(enum.StrEnum):
    """Protocol of the connection to Triton."""

    grpc = "grpc"
    http = "http"


_DEFAULTS = {Protocol.grpc: "localhost:8001", Protocol.http: "localhost:8000"}

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of Triton: `host:port`, or a URL with a scheme (grpc, grpcs, http, https). Or a base URL that ends in /v1 for OpenAI's API, with the key in `OPENAI_API_KEY`.",
        show_default="localhost:8001, or localhost:8000 for http",
    ),
]
ProtocolOption = Annotated[Protocol, typer.Option(help="Protocol, if the URL has no scheme.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Timeout of a whole answer, in seconds.")]
MaxTokens = Annotated[
    int | None,
    typer.Option(min=1, help="Maximum number of tokens to generate.", show_default="the endpoint's"),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Randomness of sampling; 0 always takes the most likely token.", show_default="the endpoint's"
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(help="Cumulative probability of the tokens to sample from.", show_default="the endpoint's"),
]
Seed = Annotated[int | None, typer.Option(help="Seed, for reproducible answers.", show_default="none")]
System = Annotated[str | None, typer.Option(help="System message.", show_default="the endpoint's")]


def address(url: str | None, protocol: Protocol) -> str:
    """The URL for a client."""
    url = url or _DEFAULTS[protocol]
    return url if "://" in url else f"{protocol.value}://{url}"


def given(**parameters: Any) -> dict[str, Any]:
    """The sampling parameters that are set."""
    return {name: value for name, value in parameters.items() if value is not None and value != []}


def question(prompt: str, system: str | None) -> dict[str, Any]:
    """The client's arguments for a prompt, with or without a system message."""
    if system is None:
        return {"prompt": prompt}
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}]}
