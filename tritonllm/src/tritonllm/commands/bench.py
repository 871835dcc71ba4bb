"""`tritonllm bench`: the command line of `tritonllm.bench`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from tritonllm.bench import targets, workload


class _Group(typer.core.TyperGroup):
    """`tritonllm bench chat.yaml` is `tritonllm bench run chat.yaml`."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure how fast an endpoint answers, and how much it carries.\n\n"
    "AIPerf generates the load; it comes with `tritonllm[bench]`. `tritonllm bench chat.yaml` is short for"
    " `tritonllm bench run chat.yaml`.",
)

Target = Annotated[
    str,
    typer.Argument(
        metavar="ENDPOINT.yaml|URL",
        help="A file, which is served for the time of the benchmark, or the URL of OpenAI's API.",
    ),
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Endpoint to ask.", show_default="the only one")
]
ApiOption = Annotated[str, typer.Option("--api", metavar="chat|completions", help="Route of OpenAI's API.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|NAME",
        help="Tokenizer that measures synthetic prompts: a directory, a name on the Hub, or `builtin`.",
        show_default="the endpoint's weights, or builtin",
    ),
]
Dataset = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Prompts to send instead of synthetic ones: JSON lines with `prompt`, or `instruction` and `input`.",
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Number of requests.", show_default="10 per stream, at least 50"),
]
Duration = Annotated[
    float | None, typer.Option(min=1, metavar="SECONDS", help="Send no more requests after this time.")
]
Warmup = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Requests before those that count.", show_default="1 per stream"),
]
Slo = Annotated[
    str | None,
    typer.Option(
        metavar="OBJECTIVES",
        help="Requests that meet these count as goodput: ttft=500ms,itl=50ms,latency=10s.",
    ),
]
IgnoreEos = Annotated[
    bool | None,
    typer.Option(
        "--ignore-eos/--no-ignore-eos",
        help="Generate until the maximum number of tokens.",
        show_default="with synthetic prompts",
    ),
]
Extra = Annotated[
    str | None, typer.Option(metavar="JSON", help='Further fields of each request, as in {"temperature": 0}.')
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of prompts and arrivals.")]
Timeout = Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Timeout of a request.")]
MetricsUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Triton's metrics, for what the rules did; known where a file is served."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder for the results.", show_default="named by the time"),
]


@app.command()
def run(
    target: Target,
    model: Model = None,
    api: ApiOption = "chat",
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Requests in progress at any time; with --request-rate, the most.",
            show_default="16 without --request-rate",
        ),
    ] = None,
    request_rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="N", help="Requests per second, arriving as a Poisson process."),
    ] = None,
    input_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Length of synthetic prompts.", show_default="512")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Maximum length of answers.",
            show_default="128; the endpoint's with a dataset",
        ),
    ] = None,
    dataset: Dataset = None,
    requests: Requests = None,
    duration: Duration = None,
    warmup: Warmup = None,
    slo: Slo = None,
    ignore_eos: IgnoreEos = None,
    extra: Extra = None,
    seed: Seed = 0,
    timeout: Timeout = 600,
    tokenizer: Tokenizer = None,
    metrics_url: MetricsUrl = None,
    output: Output = None,
) -> None:
    """Measure an endpoint under one load.

        tritonllm bench chat.yaml --concurrency 16

    Against a server that runs already, with arrivals at random:

        tritonllm bench http://localhost:8080 --request-rate 5 --slo ttft=500ms,itl=50ms

    Prints the times and throughput, and writes result.json, result.csv and AIPerf's own files. Ctrl-C keeps what has been
    measured. The exit code is 1 if any request failed.
    """
    from tritonllm.bench import folders, measure, tables, workload

    asked = _workload(
        api=api,
        dataset=dataset,
        requests=requests,
        duration=duration,
        warmup=warmup,
        slo=slo,
        ignore_eos=ignore_eos,
        extra=extra,
        seed=seed,
        timeout=timeout,
    )
    point = workload.with_defaults(workload.Point(concurrency, request_rate, input_tokens, max_tokens), asked)
    folder = output or Path(f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    with _prepared(target, model, metrics_url, folder) as server:
        if folders.read_result(folder) is not None:
            raise typer.BadParameter(f"{folder} has a result already; name another", param_hint="--output")
        asked = _with_prompts(asked, folder)
        typer.echo(f"Asking {server.model} at {server.url} …", err=True)
        result = measure.measure(server, tokenizer or server.tokenizer or "builtin", asked, point, folder)
    typer.echo(tables.summary(result))
    typer.echo(f"Results: {folder / folders.RESULT}", err=True)
    raise typer.Exit(_exit_code(complete=result.complete, failed=result.failed))


def _axis(what: str) -> Any:
    return typer.Option(metavar="NUMBERS", help=what, show_default=False)


@app.command()
def sweep(
    target: Target,
    model: Model = None,
    api: ApiOption = "chat",
    concurrency: Annotated[str | None, _axis("Requests in progress at any time, as in 1:256.")] = None,
    request_rate: Annotated[str | None, _axis("Requests per second, as in 10:60:10.")] = None,
    input_tokens: Annotated[str | None, _axis("Lengths of synthetic prompts, as in 100,200,400.")] = None,
    max_tokens: Annotated[str | None, _axis("Maximum lengths of answers.")] = None,
    dataset: Dataset = None,
    requests: Requests = None,
    duration: Duration = None,
    warmup: Warmup = None,
    slo: Slo = None,
    ignore_eos: IgnoreEos = None,
    extra: Extra = None,
    seed: Seed = 0,
    timeout: Timeout = 600,
    tokenizer: Tokenizer = None,
    metrics_url: MetricsUrl = None,
    output: Output = None,
) -> None:
    """Measure an endpoint under a grid of loads, and draw the curves.

        tritonllm bench sweep chat.yaml --concurrency 1:256

    An axis is numbers and ranges, separated by commas: 1:256 doubles from 1 to 256, 10:60:10 goes in steps of 10. Several
    axes make a grid. Writes sweep.csv and report.html after each point. To continue a sweep that was stopped, or to add
    points to it, name its folder:

        tritonllm bench sweep chat.yaml --concurrency 1:512 --output sweep-20260101-120000

    The exit code is 1 if any request failed.
    """
    from tritonllm.bench import axes, measure, tables
    from tritonllm.bench import sweep as sweeps
    from tritonllm.bench import workload as workloads

    asked = _workload(
        api=api,
        dataset=dataset,
        requests=requests,
        duration=duration,
        warmup=warmup,
        slo=slo,
        ignore_eos=ignore_eos,
        extra=extra,
        seed=seed,
        timeout=timeout,
    )
    whole = {"concurrency": concurrency, "input_tokens": input_tokens, "max_tokens": max_tokens}
    given: dict[str, Any] = {
        name: axes.whole_numbers(text, f"--{name.replace('_', '-')}")
        for name, text in whole.items()
        if text is not None
    }
    if request_rate is not None:
        given["request_rate"] = axes.numbers(request_rate, "--request-rate")
    if not given:
        raise typer.BadParameter(
            "name at least one axis, as in --concurrency 1:256", param_hint="--concurrency"
        )
    grid = axes.grid(given)
    points = [workloads.with_defaults(point, asked) for point in grid]
    folder = output or Path(f"sweep-{time.strftime('%Y%m%d-%H%M%S')}")
    with _prepared(target, model, metrics_url, folder) as server:
        asked = _with_prompts(asked, folder)
        tokens = tokenizer or server.tokenizer or "builtin"
        wanted = sweeps.settings(target, server.model, tokens, asked)
        sweeps.claim(folder, wanted)
        typer.echo(f"Asking {server.model} at {server.url}; the folder is {folder}", err=True)
        found = sweeps.run(
            folder,
            wanted,
            points,
            lambda point, place: measure.measure(server, tokens, asked, point, place),
            lambda text: typer.echo(text, err=True),
        )
    typer.echo(tables.overview(found))
    typer.echo(f"Report: {folder / sweeps.REPORT}", err=True)
    complete = len(found) == len(points) and all(result.complete for result in found)
    raise typer.Exit(_exit_code(complete=complete, failed=sum(result.failed for result in found)))


def _workload(
    *, slo: str | None, extra: str | None, ignore_eos: bool | None, **given: Any
) -> workload.Workload:
    from tritonllm.bench import failures, workload
    from tritonllm.bench import slo as slos

    try:
        api = workload.Api(given.pop("api"))
    except ValueError:
        raise failures.InvalidBenchmark("--api: is chat or completions") from None
    fields = {}
    if extra is not None:
        try:
            fields = json.loads(extra)
        except ValueError as error:
            raise failures.InvalidBenchmark(f"--extra: is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise failures.InvalidBenchmark('--extra: is not an object, as in {"temperature": 0}')
    return workload.Workload(
        api=api,
        slo=slos.parse(slo) if slo is not None else {},
        extra=fields,
        ignore_eos=given["dataset"] is None if ignore_eos is None else ignore_eos,
        **given,
    )


def _with_prompts(asked: workload.Workload, folder: Path) -> workload.Workload:
    import dataclasses

    from tritonllm.bench import measure

    if asked.dataset is None:
        return asked
    return dataclasses.replace(asked, dataset=measure.prepared_dataset(asked.dataset, folder))


@contextlib.contextmanager
def _prepared(
    target: str, model: str | None, metrics_url: str | None, folder: Path
) -> Iterator[targets.Server]:
    """The server to ask, and the folder for the results, which is ours for the block."""
    from tritonllm.bench import folders, measure, targets

    measure.program()
    if "://" in target:
        server = targets.running(target, model, metrics_url)
        with folders.locked(folder):
            yield server
        return
    name = targets.endpoint(Path(target), model)
    with folders.locked(folder):
        typer.echo(f"Serving {target} …", err=True)
        with targets.served(Path(target), name, folder / "serve.log") as server:
            yield server


def _exit_code(*, complete: bool, failed: int) -> int:
    if not complete:
        return 130
    return 1 if failed else 0
