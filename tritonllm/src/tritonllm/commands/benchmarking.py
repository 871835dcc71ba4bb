"""The options that `bench` and `tune` share, declared once: who is asked and with which work."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from tritonllm.bench import targets, workload

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
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Requests in progress at any time; with --request-rate, the most.",
        show_default="16 without --request-rate",
    ),
]
RequestRate = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="N", help="Requests per second, arriving as a Poisson process."),
]
InputTokens = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Length of synthetic prompts.", show_default="512")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum length of answers.",
        show_default="128; the endpoint's with a dataset",
    ),
]
ApiOption = Annotated[
    str,
    typer.Option(
        "--api",
        metavar="chat|completions|triton",
        help="Route of OpenAI's API, or Triton's generate_stream at its HTTP port.",
    ),
]
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
DatasetEntries = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Only the first prompts of the dataset, each once.", show_default="all"
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


def _work(
    api: ApiOption = "chat",
    dataset: Dataset = None,
    requests: Requests = None,
    duration: Duration = None,
    warmup: Warmup = None,
    ignore_eos: IgnoreEos = None,
    extra: Extra = None,
    seed: Seed = 0,
    timeout: Timeout = 600,
    tokenizer: Tokenizer = None,
) -> None:
    """Declares the options of the work, in their order."""


class Work(dict[str, Any]):
    """What these options were given."""

    @property
    def tokenizer(self) -> str | None:
        """See `workload.Target`; None if it was not given."""
        return self["tokenizer"]

    def workload(self, slo: str | None = None) -> workload.Workload:
        """The work that they ask for.

        Args:
            slo: objectives of a request; see `slo.parse`.

        Raises:
            failures.InvalidBenchmark: an option cannot be followed.
        """
        from tritonllm.bench import failures, workload
        from tritonllm.bench import slo as slos

        given = {name: value for name, value in self.items() if name != "tokenizer"}
        try:
            api = workload.Api(given.pop("api"))
        except ValueError:
            raise failures.InvalidBenchmark("--api: is chat, completions or triton") from None
        ignore_eos = given.pop("ignore_eos")
        return workload.Workload(
            api=api,
            slo=slos.parse(slo) if slo else {},
            extra=_object(given.pop("extra")),
            ignore_eos=given["dataset"] is None if ignore_eos is None else ignore_eos,
            **given,
        )


def with_work(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of the work to a command, which gets them as its argument `work`."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_work, eval_str=True).parameters
    at = [*own.parameters].index("work")
    parameters = [*own.parameters.values()]
    parameters[at : at + 1] = shared.values()

    @functools.wraps(command)
    def run(**given: Any) -> None:
        work = Work({name: given.pop(name) for name in shared})
        command(**given, work=work)

    # Typer reads the signature, and asks the wrapped function unless it is told not to.
    del run.__wrapped__
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def with_prompts(asked: workload.Workload, folder: Path, entries: int | None = None) -> workload.Workload:
    """The workload with its file of prompts as AIPerf reads it, in the folder; with `entries`, the first ones."""
    import dataclasses

    from tritonllm.bench import measure

    if asked.dataset is None:
        return asked
    prompts = measure.prepared_dataset(asked.dataset, folder, entries)
    return dataclasses.replace(asked, dataset=prompts)


class Side(NamedTuple):
    """Who is asked: a file to serve, or the URL of a server.

    Attributes:
        target: the file or URL.
        model: which of its models; None if there is one.
        api: that is asked.
    """

    target: str
    model: str | None
    api: workload.Api

    def check(self) -> None:
        """Finds out whether it can be asked, before anything is started.

        Raises:
            files.Invalid, failures.InvalidBenchmark, failures.BenchmarkFailed: it cannot.
        """
        from tritonllm.bench import targets

        if "://" in self.target:
            targets.running(self.target, self.model, self.api, None)
        else:
            targets.endpoint(Path(self.target), self.model)

    @contextlib.contextmanager
    def answering(self, log: Path, metrics_url: str | None = None) -> Iterator[targets.Server]:
        """A server that answers for the block.

        Args:
            log: file for what a server prints that is started.
            metrics_url: of Triton's metrics of one that runs already.
        """
        from tritonllm.bench import targets

        if "://" in self.target:
            yield targets.running(self.target, self.model, self.api, metrics_url)
            return
        file = Path(self.target)
        typer.echo(f"Serving {file} …", err=True)
        with targets.served(file, targets.endpoint(file, self.model), self.api, log) as server:
            yield server


@contextlib.contextmanager
def prepared(
    target: str, model: str | None, api: workload.Api, metrics_url: str | None, folder: Path
) -> Iterator[targets.Server]:
    """The server to ask, and the folder for the results, which is ours for the block."""
    from tritonllm.bench import folders, measure

    measure.program()
    side = Side(target, model, api)
    side.check()
    with folders.locked(folder), side.answering(folder / "serve.log", metrics_url) as server:
        yield server


def exit_code(*, complete: bool, failed: int) -> int:
    """130 after Ctrl-C, 1 if a request failed."""
    if not complete:
        return 130
    return 1 if failed else 0


def _object(text: str | None) -> dict[str, Any]:
    from tritonllm.bench import failures

    if text is None:
        return {}
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise failures.InvalidBenchmark(f"--extra: is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise failures.InvalidBenchmark('--extra: is not an object, as in {"temperature": 0}')
    return fields
