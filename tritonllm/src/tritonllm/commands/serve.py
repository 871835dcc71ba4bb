"""`tritonllm serve`: the command line and the terminal output of the supervisor in `tritonllm.serve`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonllm import places

if TYPE_CHECKING:
    import rich.console

    from tritonllm import serve as supervisor


class Logs(enum.StrEnum):
    """Where the output of tritonserver goes."""

    file = "file"
    stderr = "stderr"


def serve(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="ENDPOINT.yaml", help="Files with LLMEndpoints.")
    ] = None,
    endpoints: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The files as an option; also a directory of files, such as a mounted ConfigMap.",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            envvar="TRITONLLM_WEIGHTS",
            help="Root of the weights.",
            show_default="weights in the user's cache",
        ),
    ] = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")
    ] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535)] = 8001,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535)] = 8002,
    health_port: Annotated[int, typer.Option(min=1, max=65535, help="/readyz and /livez.")] = 8003,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Maximum time for running requests to end after Ctrl-C or SIGTERM.")
    ] = 10,
    allow_direct_engine: Annotated[
        bool,
        typer.Option(
            "--allow-direct-engine", help="Let clients call the engines, which bypasses the guardrails."
        ),
    ] = False,
    api_secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with a secret that callers of Triton's administrative APIs have to send in a header.",
        ),
    ] = None,
    logs: Annotated[Logs, typer.Option(help="Where to write the output of tritonserver.")] = Logs.file,
) -> None:
    """Serve endpoints on this machine, until Ctrl-C.

        tritonllm serve chat.yaml

    Missing weights are downloaded first, unless HF_HUB_OFFLINE is set. If an endpoint cannot be served, the others still
    are; if none can, the exit code gives the reason (20 to 29: no weights, see `weights sync`). The files are watched:
    /readyz only waits for endpoints that are still in them.
    """
    from tritonllm import serve as supervisor

    if not files and not endpoints:
        raise typer.BadParameter(
            "at least one file with an LLMEndpoint is required", param_hint="ENDPOINT.yaml"
        )
    root = (Path(weights) if weights else places.weights()).absolute()
    given = (*(files or ()), *(endpoints or ()))
    _download(given, root)
    options = supervisor.Options(
        files=given,
        weights=str(root),
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        health_port=health_port,
        drain_seconds=drain_seconds,
        api_secret_file=api_secret_file,
        allow_direct_engine=allow_direct_engine,
        logs=logs.value,
        reporter=reporter(),
    )
    raise typer.Exit(supervisor.run(options))


def _download(paths: Sequence[Path], root: Path) -> None:
    """Downloads missing weights, unless the Hub is disabled.

    Endpoints whose weights are complete are served even if the download of others fails.
    """
    from huggingface_hub import constants

    from tritonllm import files
    from tritonllm.commands import downloading
    from tritonllm.weights import endpoints as weights_of
    from tritonllm.weights import layout, report

    if constants.is_offline_mode():
        return
    shown = downloading.display()
    results: list[report.Result] = []
    endpoints = files.load(paths)

    def done(result: report.Result) -> None:
        if result.problem or (result.published and result.published.downloaded):
            shown.say(report.line(result))

    with downloading.stoppable(shown):
        try:
            downloading.sync(endpoints, root, shown=shown, results=results, done=done)
        finally:
            shown.close()
    code = report.exit_code(results)
    if code and all(weights_of.missing(layout.Cache(root), endpoint) for endpoint in endpoints):
        raise typer.Exit(code)


def reporter() -> supervisor.Reporter:
    """Live output on a terminal, one plain line per event otherwise."""
    import rich.console

    from tritonllm import serve as supervisor

    console = rich.console.Console(stderr=True, highlight=False)
    return Terminal(console) if console.is_terminal else supervisor.Lines(sys.stderr)


class Terminal:
    """Shows the current step with a spinner, and past events above it. See `serve.Reporter`."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console
        self._status = console.status("")

    def step(self, text: str) -> None:
        """Shows a step."""
        self._console.print(text, style="dim", markup=False)
        self._status.update(text.replace("[", "\\["))
        self._status.start()

    def ready(self, serving: supervisor.Serving) -> None:
        """Shows the addresses of the endpoints when loading is complete."""
        self._status.stop()
        for name in serving.endpoints:
            self._console.print(
                f"{name} is ready at {serving.http}/v2/models/{name}", style="bold green", markup=False
            )
        if serving.endpoints:
            self._console.print(f"Try: {serving.request()}", markup=False, soft_wrap=True)

    def problem(self, text: str) -> None:
        """Shows a problem: what is wrong, where, and what to do."""
        self._status.stop()
        self._console.print(text, style="bold red", markup=False)
