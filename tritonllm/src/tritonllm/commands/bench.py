"""`tritonllm bench`: the command line of `tritonllm.bench`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from tritonllm.bench import ratios
from tritonllm.commands import bench_job, benchmarking
from tritonllm.commands.benchmarking import (
    Concurrency,
    DatasetEntries,
    InputTokens,
    MaxTokens,
    MetricsUrl,
    Model,
    Output,
    RequestRate,
    Slo,
    Target,
)


class _Group(typer.core.TyperGroup):
    """`tritonllm bench chat.yaml` is `tritonllm bench run chat.yaml`, and with `--pool` it is `tritonllm bench job`."""

    def default(self, args: list[str]) -> str:
        """The command that is meant where none is named."""
        return "job" if any(arg == "--pool" or arg.startswith("--pool=") for arg in args) else "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = [self.default(args), *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure how fast an endpoint answers, and how much it carries.\n\n"
    "AIPerf generates the load; it comes with `tritonllm[bench]`. `tritonllm bench chat.yaml` is short for"
    " `tritonllm bench run chat.yaml`, and `tritonllm bench --pool llm` for `tritonllm bench job --pool llm`.",
)


@app.command()
@benchmarking.with_work
def run(
    target: Target,
    model: Model = None,
    concurrency: Concurrency = None,
    request_rate: RequestRate = None,
    input_tokens: InputTokens = None,
    max_tokens: MaxTokens = None,
    dataset_entries: DatasetEntries = None,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often to measure; more than once shows the spread.")
    ] = 1,
    slo: Slo = None,
    metrics_url: MetricsUrl = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one line of JSON instead of the table.")
    ] = False,
    output: Output = None,
    *,
    work: benchmarking.Work,
) -> None:
    """Measure an endpoint under one load.

        tritonllm bench chat.yaml --concurrency 16

    Against a server that runs already, with arrivals at random:

        tritonllm bench http://localhost:8080 --request-rate 5 --slo ttft=500ms,itl=50ms

    Prints the times and throughput, and writes result.json, result.csv and AIPerf's own files. Ctrl-C keeps what has been
    measured. The exit code is 1 if any request failed.
    """
    import dataclasses
    import json

    from tritonllm.bench import folders, measure, tables, workload
    from tritonllm.bench import repeats as repeating
    from tritonllm.bench import sweep as sweeps

    if as_json and repeats > 1:
        raise typer.BadParameter("is of one measurement, not of --repeats", param_hint="--json")
    asked = work.workload(slo)
    given = workload.Point(concurrency, request_rate, input_tokens, max_tokens, dataset_entries)
    point = workload.with_defaults(given, asked)
    folder = output or Path(f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    with benchmarking.prepared(target, model, asked.api, metrics_url, folder) as server:
        if folders.read_result(folder) is not None:
            raise typer.BadParameter(f"{folder} has a result already; name another", param_hint="--output")
        asked = benchmarking.with_prompts(asked, folder, dataset_entries)
        typer.echo(f"Asking {server.model} at {server.url} …", err=True)
        tokens = work.tokenizer or server.tokenizer or "builtin"
        if repeats == 1:
            found = [measure.measure(server, tokens, asked, point, folder)]
        else:
            wanted = sweeps.settings(target, server.model, tokens, asked) | {"load": point.described()}
            folders.claim(folder, repeating.SETTINGS, wanted, "repeats")
            found = repeating.run(
                folder,
                repeats,
                # Other prompts each time: a prefix cache would know the same ones.
                lambda number, place: measure.measure(
                    server, tokens, dataclasses.replace(asked, seed=asked.seed + number), point, place
                ),
                lambda text: typer.echo(text, err=True),
            )
    if as_json:
        typer.echo(json.dumps(found[0].encoded()))
    else:
        typer.echo(tables.summary(found[0]) if repeats == 1 else repeating.text(found))
    typer.echo(f"Results: {folder / (folders.RESULT if repeats == 1 else repeating.TABLE)}", err=True)
    complete = len(found) == repeats and all(result.complete for result in found)
    raise typer.Exit(benchmarking.exit_code(complete=complete, failed=sum(result.failed for result in found)))


@app.command()
@benchmarking.with_work
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A file, which is served in its turns, or a URL.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    rounds: Annotated[
        int,
        typer.Option(
            min=1, max=ratios.MAX_ROUNDS, metavar="N", help="Rounds, in each of which both are measured once."
        ),
    ] = 4,
    answers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Prompts whose answers at temperature 0 are compared.")
    ] = 8,
    concurrency: Concurrency = None,
    request_rate: RequestRate = None,
    input_tokens: InputTokens = None,
    max_tokens: MaxTokens = None,
    dataset_entries: DatasetEntries = None,
    model: Model = None,
    model_b: Annotated[
        str | None, typer.Option(metavar="NAME", help="Endpoint of B to ask.", show_default="--model")
    ] = None,
    output: Output = None,
    *,
    work: benchmarking.Work,
) -> None:
    """Compare two endpoints under the same load, in turns, and their answers.

        tritonllm bench compare chat.yaml best.yaml --concurrency 64

    The order is A B, B A, A B …, so that a machine that gets slower slows both. Prints ratios with 95 % confidence intervals,
    how many answers at temperature 0 are equal, and where others part. Ctrl-C keeps the rounds before. The exit code is 1
    if any request failed.
    """
    from tritonllm.bench import answers as asking
    from tritonllm.bench import comparing, dataset, folders, measure, workload

    asked = work.workload()
    given = workload.Point(concurrency, request_rate, input_tokens, max_tokens, dataset_entries)
    point = workload.with_defaults(given, asked)
    folder = output or Path(f"compare-{time.strftime('%Y%m%d-%H%M%S')}")
    measure.program()
    sides = {
        "a": benchmarking.Side(a, model, asked.api),
        "b": benchmarking.Side(b, model_b or model, asked.api),
    }
    for side in sides.values():
        side.check()
    with folders.locked(folder):
        if (folder / comparing.RESULT).exists():
            raise typer.BadParameter(
                f"{folder} has a comparison already; name another", param_hint="--output"
            )
        asked = benchmarking.with_prompts(asked, folder, dataset_entries)
        texts = asking.PROMPTS if asked.dataset is None else dataset.texts(asked.dataset)
        prompts = [asking.Asked(text, point.max_tokens) for text in texts[:answers]]
        found, stopped = comparing.run(
            folder,
            rounds,
            lambda side: sides[side].answering(folder / f"serve-{side}.log"),
            lambda server, place: measure.measure(
                server, work.tokenizer or server.tokenizer or "builtin", asked, point, place
            ),
            lambda server: asking.ask(server, asked, prompts),
            [prompt.text for prompt in prompts],
            lambda text: typer.echo(text, err=True),
        )
    typer.echo(comparing.text(found))
    typer.echo(f"Results: {folder / comparing.RESULT}", err=True)
    failed = sum(result.failed for pair in found.rounds for result in pair)
    raise typer.Exit(benchmarking.exit_code(complete=not stopped, failed=failed))


def _axis(what: str) -> Any:
    return typer.Option(metavar="NUMBERS", help=what, show_default=False)


@app.command()
@benchmarking.with_work
def sweep(
    target: Target,
    model: Model = None,
    concurrency: Annotated[str | None, _axis("Requests in progress at any time, as in 1:256.")] = None,
    request_rate: Annotated[str | None, _axis("Requests per second, as in 10:60:10.")] = None,
    input_tokens: Annotated[str | None, _axis("Lengths of synthetic prompts, as in 100,200,400.")] = None,
    max_tokens: Annotated[str | None, _axis("Maximum lengths of answers.")] = None,
    dataset_entries: Annotated[
        str | None, _axis("Numbers of prompts of the dataset, the first ones, each once.")
    ] = None,
    slo: Slo = None,
    metrics_url: MetricsUrl = None,
    png: Annotated[
        bool, typer.Option("--png", help="Write each chart of the report as a PNG, too (needs matplotlib).")
    ] = False,
    termination_message: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to which a summary is written as one line of JSON."),
    ] = None,
    output: Output = None,
    *,
    work: benchmarking.Work,
) -> None:
    """Measure an endpoint under a grid of loads, and draw the curves.

        tritonllm bench sweep chat.yaml --concurrency 1:256

    An axis is numbers and ranges, separated by commas: 1:256 doubles from 1 to 256, 10:60:10 goes in steps of 10. Several
    axes make a grid. Writes sweep.csv and report.html after each point. To continue a sweep that was stopped, or to add
    points to it, name its folder:

        tritonllm bench sweep chat.yaml --concurrency 1:512 --output sweep-20260101-120000

    The exit code is 1 if any request failed.
    """
    from tritonllm.bench import axes, measure, results, summary, tables
    from tritonllm.bench import png as pictures
    from tritonllm.bench import sweep as sweeps
    from tritonllm.bench import workload as workloads

    asked = work.workload(slo)
    whole = {
        "concurrency": concurrency,
        "input_tokens": input_tokens,
        "max_tokens": max_tokens,
        "dataset_entries": dataset_entries,
    }
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
    if png:
        pictures.check()
    grid = axes.grid(given)
    points = [workloads.with_defaults(point, asked) for point in grid]
    folder = output or Path(f"sweep-{time.strftime('%Y%m%d-%H%M%S')}")
    with benchmarking.prepared(target, model, asked.api, metrics_url, folder) as server:
        # All of them, so that more values of the axis are no other dataset.
        asked = benchmarking.with_prompts(asked, folder)
        tokens = work.tokenizer or server.tokenizer or "builtin"
        wanted = sweeps.settings(target, server.model, tokens, asked)
        sweeps.claim(folder, wanted)
        typer.echo(f"Asking {server.model} at {server.url}; the folder is {folder}", err=True)
        measured: list[results.Result] = []

        def measure_point(point: workloads.Point, place: Path) -> results.Result:
            measured.append(measure.measure(server, tokens, asked, point, place))
            if termination_message is not None:
                # In place: a container's termination log is a mount point, which cannot be replaced by a rename.
                termination_message.write_text(summary.text(measured) + "\n")
            return measured[-1]

        found = sweeps.run(
            folder,
            wanted,
            points,
            measure_point,
            lambda text: typer.echo(text, err=True),
        )
        if png:
            sweeps.write_pictures(folder, found)
    typer.echo(tables.overview(found))
    typer.echo(f"Report: {folder / sweeps.REPORT}", err=True)
    complete = len(found) == len(points) and all(result.complete for result in found)
    raise typer.Exit(benchmarking.exit_code(complete=complete, failed=sum(result.failed for result in found)))


app.command()(bench_job.job)
