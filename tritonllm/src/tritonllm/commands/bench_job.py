"""`tritonllm bench --pool`: the same benchmark as `bench run`, as a Job beside a pool."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonllm.commands import benchmarking
from tritonllm.commands.benchmarking import (
    Concurrency,
    InputTokens,
    MaxTokens,
    Model,
    Output,
    RequestRate,
    Slo,
)

# In the container.
_RESULTS = "/tmp/results"


@benchmarking.with_work
def job(
    pool: Annotated[str, typer.Option(metavar="NAME", help="Pool to measure.")],
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="Of the pool.", show_default="that of the context"
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the kubeconfig.", show_default="the current one")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Image of the Job.", show_default="benchmark.image of the pool"),
    ] = None,
    api_key_secret: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Secret with an API key as its entry `default`.", show_default="the pool's"
        ),
    ] = None,
    deadline: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="Time after which Kubernetes ends the Job.")
    ] = 3600,
    model: Model = None,
    concurrency: Concurrency = None,
    request_rate: RequestRate = None,
    input_tokens: InputTokens = None,
    max_tokens: MaxTokens = None,
    slo: Slo = None,
    output: Output = None,
    *,
    work: benchmarking.Work,
) -> None:
    """Measure a pool under one load, by a Job beside it. `bench --pool NAME` is short for this.

        tritonllm bench --pool llm --namespace chat --concurrency 64

    The Job runs `bench run` in an image with AIPerf (images/triton-cpu, target bench). kubectl makes it, with your kubeconfig,
    and it is deleted afterwards. Prints the times and throughput, and writes result.json, result.csv and the Job's log.
    Ctrl-C keeps what has been measured. The exit code is 1 if any request failed.
    """
    from tritonllm.bench import folders, jobs, kubectl, pools, tables, workload

    asked = work.workload(slo)
    workload.with_defaults(workload.Point(concurrency, request_rate, input_tokens, max_tokens), asked)
    point = {
        "concurrency": concurrency,
        "request_rate": request_rate,
        "input_tokens": input_tokens,
        "max_tokens": max_tokens,
    }
    arguments = job_arguments(pool, {"model": model, **point, "slo": slo, **work})
    cluster = kubectl.Kubectl(namespace, context)
    deployment = pools.found(cluster, pool)
    chosen = jobs.image(deployment, image)
    body = jobs.body(jobs.name(pool), deployment, chosen, arguments, deadline, api_key_secret)
    folder = output or Path(f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    with folders.locked(folder):
        if folders.read_result(folder) is not None:
            raise typer.BadParameter(f"{folder} has a result already; name another", param_hint="--output")
        result = pools.run(cluster, body, folder, lambda text: typer.echo(text, err=True))
    typer.echo(tables.summary(result))
    typer.echo(f"Results: {folder / folders.RESULT}", err=True)
    raise typer.Exit(benchmarking.exit_code(complete=result.complete, failed=result.failed))


def job_arguments(pool: str, given: Mapping[str, Any]) -> list[str]:
    """The command line of `tritonllm` in the Job.

    Args:
        pool: its Service has this name.
        given: options of `bench run` by their names; None is not given.

    Raises:
        failures.InvalidBenchmark: an option cannot be followed there.
    """
    from tritonllm.bench import failures

    if given["dataset"] is not None:
        raise failures.InvalidBenchmark("--dataset: cannot be combined with --pool; the Job has no such file")
    port = 8000 if given["api"] == "triton" else 8080
    arguments = ["bench", "run", f"http://{pool}:{port}", "--json", "--output", _RESULTS]
    for name, value in given.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            # One word, so that no value is taken for an option.
            arguments.append(f"--{option}={value}")
    return arguments
