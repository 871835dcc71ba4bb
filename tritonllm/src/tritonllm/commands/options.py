"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tritonllm import paths

TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the Hub's token.", show_default="the variable HF_TOKEN"),
]
EndpointUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="URL of the Hub or a mirror.", show_default="HF_ENDPOINT, or the Hub"),
]


def weights_root(description: str) -> Any:
    """The option for the root of the weights on this machine.

    Args:
        description: its help.
    """
    return typer.Option(
        metavar="DIR",
        envvar="TRITONLLM_WEIGHTS",
        help=description,
        default_factory=paths.weights,
        callback=lambda path: path.absolute(),
        show_default="weights in the user's cache",
    )
