"""The options that every command shares that asks a server."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer


class Protocol(enum.StrEnum):
    """How to reach Triton."""

    grpc = "grpc"
    http = "http"


_DEFAULTS = {Protocol.grpc: "localhost:8001", Protocol.http: "localhost:8000"}

Url = Annotated[
    str | None,
    typer.Option(
        help="Where Triton listens: `host:port`, or with a scheme (grpc, grpcs, http, https).",
        show_default="localhost:8001, or localhost:8000 for http",
    ),
]
ProtocolOption = Annotated[Protocol, typer.Option(help="How to ask, where the URL has no scheme.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that one answer may take as a whole.")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of an answer.", show_default="the endpoint's")
]
Temperature = Annotated[
    float | None, typer.Option(help="0 takes the likeliest token.", show_default="the endpoint's")
]
TopP = Annotated[
    float | None, typer.Option(help="Probability mass to sample from.", show_default="the endpoint's")
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same answer.", show_default="none")]
System = Annotated[
    str | None, typer.Option(help="System turn to put in front.", show_default="the endpoint's")
]


def address(url: str | None, protocol: Protocol) -> str:
    """The URL for a client."""
    url = url or _DEFAULTS[protocol]
    return url if "://" in url else f"{protocol.value}://{url}"


def given(**parameters: Any) -> dict[str, Any]:
    """The sampling parameters that were set."""
    return {name: value for name, value in parameters.items() if value is not None and value != []}


def question(prompt: str, system: str | None) -> dict[str, Any]:
    """The arguments of a client for a prompt with or without a system turn."""
    if system is None:
        return {"prompt": prompt}
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}]}
