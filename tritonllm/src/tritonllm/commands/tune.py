"""`tritonllm tune`: the command line of `tritonllm.tuning`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonllm.commands import benchmarking
from tritonllm.commands.benchmarking import DatasetEntries, InputTokens, MaxTokens, Model, Output

if TYPE_CHECKING:
    from tritonllm import api
    from tritonllm.bench import workload
    from tritonllm.tuning import space as spaces


@benchmarking.with_work
def tune(
    target: Annotated[Path, typer.Argument(metavar="ENDPOINT.yaml", help="The start configuration.")],
    objective: Annotated[
        str,
        typer.Option(
            metavar="METRIC",
            help="What to improve: output-tokens-per-second, total-tokens-per-second, requests-per-second, goodput, or a"
            " latency such as ttft-p99.",
        ),
    ] = "output-tokens-per-second",
    slo: Annotated[
        str | None,
        typer.Option(
            metavar="OBJECTIVES",
            help="What a configuration has to keep, as in ttft-p99=500ms,itl-p99=50ms; without a statistic, what a request"
            " has to for the goodput.",
        ),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Values to choose from, in the shape of `spec`.",
            show_default="those of the engine type",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Number of configurations to try, with those of the folder."),
    ] = 30,
    minutes: Annotated[
        float | None, typer.Option(min=1, metavar="N", help="Start no more trials after this time.")
    ] = None,
    start_timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Maximum time until a configuration is ready.")
    ] = 1800,
    concurrency: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Requests in progress at any time; of several, as in 32:256, the best counts that keeps the objectives.",
            show_default="16 without --request-rate",
        ),
    ] = None,
    request_rate: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="Requests per second, likewise.", show_default=False),
    ] = None,
    input_tokens: InputTokens = None,
    max_tokens: MaxTokens = None,
    dataset_entries: DatasetEntries = None,
    model: Model = None,
    output: Output = None,
    *,
    work: benchmarking.Work,
) -> None:
    """Find the engine arguments and limits with which an endpoint does most.

        tritonllm tune chat.yaml --slo ttft-p99=500ms --concurrency 32:256 --minutes 120

    Each configuration is served and measured on this machine; the first one is the file itself. Writes best.yaml, the best
    configuration that keeps the objectives, trials.csv and report.html after each trial. Ctrl-C keeps them. To go on, name
    the folder:

        tritonllm tune chat.yaml … --trials 60 --output tune-20260101-120000

    The exit code is 1 if no configuration keeps the objectives.
    """
    import dataclasses

    from tritonllm import versions
    from tritonllm.bench import failures, folders, measure, targets
    from tritonllm.bench import workload as workloads

    try:
        from tritonllm.tuning import attempts, candidates, objectives, tables, tuner
        from tritonllm.tuning import space as spaces
        from tritonllm.tuning import trials as tried
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise failures.BenchmarkFailed(
            "Optuna is not installed, which chooses the configurations; install it with `pip install 'tritonllm[tune]'`"
        ) from None
    wanted = objectives.objective(objective)
    limited, of_requests = objectives.limits(slo) if slo else ((), "")
    if bool(of_requests) != (wanted.tag == "goodput"):
        raise failures.InvalidBenchmark(
            "--slo: the goodput needs objectives of a request, as in ttft=500ms"
            if not of_requests
            else f"--slo: `{of_requests}` has no statistic, as in ttft-p99=500ms; only the goodput counts single requests"
        )
    asked = work.workload(of_requests)
    points = [
        workloads.with_defaults(dataclasses.replace(point, dataset_entries=dataset_entries), asked)
        for point in _points(concurrency, request_rate, input_tokens, max_tokens)
    ]
    if len(points) > 1 and not wanted.maximized:
        raise failures.InvalidBenchmark(
            f"--objective: {objective} is the lowest under the least load; name one load only"
        )
    endpoint = _endpoint(target, targets.endpoint(target, model))
    original = target.read_text(encoding="utf-8")
    version = versions.installed_version()
    values = {
        # Null is a default; where that is known, both would be the same configuration.
        path: [
            candidates.default(endpoint.spec.engine, path, version) if each is None else each
            for each in given
        ]
        for path, given in _values(space, endpoint).items()
    }
    axes = spaces.around(values, {path: candidates.current(endpoint, path, version) for path in values})
    _check(original, target, endpoint.name, axes)
    measure.program()
    folder = output or Path(f"tune-{time.strftime('%Y%m%d-%H%M%S')}")
    with folders.locked(folder):
        asked = benchmarking.with_prompts(asked, folder, dataset_entries)
        settings = tuner.settings(
            original, endpoint.name, axes, wanted, limited, asked, points, work.tokenizer
        )
        folders.claim(folder, tuner.SETTINGS, settings, "a tuning run")
        shown = tuner.shown(str(target), wanted, limited, asked, points, axes)
        task = tuner.Task(original, endpoint.name, axes, wanted, limited, shown, asked.seed)

        def enough(result: Any) -> bool:
            return bool(objectives.judge(result, wanted, limited).violation)

        job = attempts.Work(endpoint.name, asked, points, work.tokenizer, start_timeout, enough)
        typer.echo(f"{spaces.size(axes)} configurations to choose from; the folder is {folder}", err=True)
        found, stopped = tuner.run(
            folder,
            task,
            tuner.Budget(trials, minutes),
            lambda content, place: attempts.attempt(job, content, place),
            lambda text: typer.echo(text, err=True),
        )
    best = tried.best(found, wanted)
    if found:
        typer.echo(tables.overview(found, axes, wanted))
        typer.echo(f"Report: {folder / tuner.REPORT}", err=True)
    if best is not None:
        typer.echo(f"Best configuration: {folder / tuner.BEST}", err=True)
    elif found:
        typer.echo(f"tritonllm: {tuner.none_feasible(found)}", err=True)
    raise typer.Exit(130 if stopped else 0 if best is not None else 1)


def _points(
    concurrency: str | None, request_rate: str | None, input_tokens: int | None, max_tokens: int | None
) -> Sequence[workload.Point]:
    from tritonllm.bench import axes, failures, workload

    if concurrency is not None and request_rate is not None:
        raise failures.InvalidBenchmark("--request-rate: name either a concurrency or a rate")
    if request_rate is not None:
        rates = axes.numbers(request_rate, "--request-rate")
        return [workload.Point(None, rate, input_tokens, max_tokens) for rate in rates]
    if concurrency is None:
        return [workload.Point(None, None, input_tokens, max_tokens)]
    streams = axes.whole_numbers(concurrency, "--concurrency")
    return [workload.Point(number, None, input_tokens, max_tokens) for number in streams]


def _endpoint(file: Path, name: str) -> api.LLMEndpoint:
    from tritonllm import files

    return next(found for found in files.load([file]) if found.name == name)


def _values(file: Path | None, endpoint: api.LLMEndpoint) -> dict[tuple[str, ...], tuple[Any, ...]]:
    import ruamel.yaml
    import ruamel.yaml.error

    from tritonllm.bench import failures
    from tritonllm.serve import gpus
    from tritonllm.tuning import space

    if file is None:
        machine = gpus.read()
        return space.default(endpoint, len(machine.gpus) if machine else 0)
    try:
        data = ruamel.yaml.YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise failures.InvalidBenchmark(f"{file}: {error.strerror}") from None
    except (ruamel.yaml.error.YAMLError, UnicodeDecodeError) as error:
        raise failures.InvalidBenchmark(f"{file}: is not YAML: {' '.join(str(error).split())}") from None
    return space.parse(data, str(file))


def _check(original: str, source: Path, name: str, axes: Sequence[spaces.Axis]) -> None:
    """Refuses an argument of which no other value is valid, for example because there is none of that name."""
    from tritonllm import files, versions
    from tritonllm.bench import failures
    from tritonllm.tuning import candidates

    for axis in axes:
        problems: list[str] = []
        others = [value for value in axis.values if value != axis.start]
        for value in others:
            text = candidates.text(original, name, {axis.path: value})
            _, found = files.parse(text, str(source), vllm_version=versions.installed_version())
            problems += [f"{problem.path}: {problem.message}" for problem in found[:1]]
        if len(problems) == len(others):
            raise failures.InvalidBenchmark(f"the search space cannot be used: {problems[0]}")
