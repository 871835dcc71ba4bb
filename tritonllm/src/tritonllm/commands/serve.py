"""`tritonllm serve`: the command line and the terminal output of the supervisor in `tritonllm.serve`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonllm import addresses, paths

if TYPE_CHECKING:
    import rich.console

    from tritonllm import allow
    from tritonllm.serve import report


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
            help="Root of the weights volume.",
            show_default="weights in the user's cache",
        ),
    ] = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; :: for all interfaces, of IPv4 and IPv6.")
    ] = "127.0.0.1",
    pod_ip: Annotated[
        str,
        typer.Option(
            envvar="POD_IP",
            help="Address of the pod: with --host ::, Triton's HTTP and metrics have only its family of IP.",
        ),
    ] = "",
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535)] = 8001,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535)] = 8002,
    health_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of /readyz and /livez.")] = 8003,
    gateway_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the OpenAI API.")] = 8080,
    gateway_workers: Annotated[
        int, typer.Option(min=1, max=64, help="Number of processes of the gateway.")
    ] = 1,
    no_gateway: Annotated[
        bool, typer.Option("--no-gateway", help="Do not start the gateway, which serves the OpenAI API.")
    ] = False,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="API keys of the gateway, or a directory of such files; see `tritonllm keys`.",
        ),
    ] = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option(
            "--allow-anonymous",
            help="Let the gateway answer without API keys on other addresses than loopback.",
        ),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Origin whose pages may use the gateway; repeatable."),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Maximum time for requests to complete on Ctrl-C.")
    ] = 10,
    load_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Maximum time to load one model; after it the endpoint is not served.",
        ),
    ] = 1800,
    allow_direct_engine: Annotated[
        bool,
        typer.Option("--allow-direct-engine", help="Let clients call the engines, bypassing the guardrails."),
    ] = False,
    api_secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Contains a secret that callers must send as a header to load models or read configurations.",
        ),
    ] = None,
    allow: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What endpoints can use, as JSON; see docs/security.md.",
            show_default="everything",
        ),
    ] = None,
    upstream_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="API keys of upstreams, a file each; engine type openai names one.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="vllm-VERSION",
            help="Refuse to start if another vLLM is installed; engine arguments are checked against this one's.",
        ),
    ] = None,
    logs: Annotated[Logs, typer.Option(help="Where to write the output of tritonserver.")] = Logs.file,
) -> None:
    """Serve endpoints on this machine, until Ctrl-C.

        tritonllm serve chat.yaml

    Missing weights are downloaded first, unless HF_HUB_OFFLINE is set. An endpoint that can't be served does not stop
    the others; if none can be served, the exit code says why (20 to 29: no weights, see `weights sync`). The files are
    watched: /readyz follows the endpoints that they contain.
    """
    from tritonllm.serve import options, supervisor

    if not no_gateway:
        _check_gateway(host, api_keys, allow_anonymous=allow_anonymous)
    if not files and not endpoints:
        raise typer.BadParameter("name at least one file with an LLMEndpoint", param_hint="ENDPOINT.yaml")
    root = (Path(weights) if weights else paths.weights()).absolute()
    given = (*(files or ()), *(endpoints or ()))
    permitted = _permissions(allow)
    _download(given, root, permitted)
    chosen = options.Options(
        files=given,
        weights=str(root),
        host=addresses.available(host),
        pod_ip=pod_ip,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        health_port=health_port,
        drain_seconds=drain_seconds,
        load_timeout=load_timeout,
        api_secret_file=api_secret_file,
        allow_direct_engine=allow_direct_engine,
        allow=permitted,
        upstream_keys=upstream_keys.absolute() if upstream_keys else None,
        gateway=None
        if no_gateway
        else options.Gateway(
            port=gateway_port,
            workers=gateway_workers,
            api_keys=api_keys.absolute() if api_keys else None,
            allow_anonymous=allow_anonymous,
            cors_origins=tuple(cors_origin or ()),
        ),
        runtime=runtime,
        logs=logs.value,
        reporter=reporter(),
    )
    raise typer.Exit(supervisor.run(chosen))


def _permissions(file: Path | None) -> allow.Allow:
    from tritonllm import allow

    try:
        return allow.load(file)
    except allow.Invalid as error:
        raise typer.BadParameter(str(error), param_hint="--allow") from None


def _check_gateway(host: str, api_keys: Path | None, *, allow_anonymous: bool) -> None:
    """Finds out before anything starts what would keep the gateway from starting.

    Raises:
        files.Invalid: the file of API keys is invalid.
    """
    from tritonllm.gateway import access, keys

    if refusal := access.refusal_to_listen(host, keys=api_keys is not None, allow_anonymous=allow_anonymous):
        raise typer.BadParameter(f"{refusal}, or --no-gateway", param_hint="--host")
    if api_keys is not None:
        keys.KeyFile([api_keys])


def _download(given: Sequence[Path], root: Path, permitted: allow.Allow) -> None:
    """Downloads missing weights from the Hub, unless this machine is offline.

    If only some endpoints get their weights, those are served.
    """
    from huggingface_hub import constants

    from tritonllm import allow, files
    from tritonllm.commands import downloading
    from tritonllm.weights import endpoints as weights_of
    from tritonllm.weights import layout
    from tritonllm.weights import report as weights_report

    if constants.is_offline_mode():
        return
    shown = downloading.display()
    results: list[weights_report.Result] = []
    endpoints = [
        found for found in files.load_readable(given).endpoints if not allow.problems(found, permitted)
    ]

    def done(result: weights_report.Result) -> None:
        if result.problem or (result.published and result.published.downloaded):
            shown.say(weights_report.line(result))

    with downloading.stoppable(shown):
        try:
            downloading.sync(endpoints, root, shown=shown, results=results, done=done)
        finally:
            shown.close()
    code = weights_report.exit_code(results)
    if code and all(weights_of.missing(layout.Cache(root), endpoint) for endpoint in endpoints):
        raise typer.Exit(code)


def reporter() -> report.Reporter:
    """Returns a live display on a terminal, otherwise one plain line per event."""
    import rich.console

    from tritonllm.serve import report

    console = rich.console.Console(stderr=True, highlight=False)
    return Terminal(console) if console.is_terminal else report.Lines(sys.stderr)


class Terminal:
    """Shows the current step with a spinner, below the previous ones. See `report.Reporter`."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console
        self._status = console.status("")

    def step(self, text: str) -> None:
        """Reports normal progress."""
        self._console.print(text, style="dim", markup=False)
        self._status.update(text.replace("[", "\\["))
        self._status.start()

    def ready(self, serving: report.Serving) -> None:
        """Reports that loading is complete and at least one endpoint is served."""
        self._status.stop()
        for name in serving.endpoints:
            self._console.print(
                f"{name} is ready at {serving.http}/v2/models/{name}", style="bold green", markup=False
            )
        if serving.endpoints:
            for line in serving.examples():
                self._console.print(line, markup=False, soft_wrap=True)

    def problem(self, text: str) -> None:
        """Reports a problem: what went wrong, where, and what to do."""
        self._status.stop()
        self._console.print(text, style="bold red", markup=False)
