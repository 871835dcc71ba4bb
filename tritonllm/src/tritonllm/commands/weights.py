"""`tritonllm weights`: downloads weights into the cache, and manages it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonllm.commands import options

if TYPE_CHECKING:
    from tritonllm.commands.downloading import Display
    from tritonllm.weights import check, gc, inventory, report

app = typer.Typer(no_args_is_help=True, help="Download weights, and manage the cache.")

Cache = Annotated[Path, options.weights_root("Root of the weights.")]


@app.command()
def sync(
    cache: Cache,
    endpoints: Annotated[
        list[Path], typer.Option(metavar="FILE", help="File with LLMEndpoints; can be repeated.")
    ],
    refresh: Annotated[bool, typer.Option("--refresh", help="Resolve branches and tags again.")] = False,
    max_wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to retry without progress.")
    ] = 300,
    token_file: options.TokenFile = None,
    endpoint_url: options.EndpointUrl = None,
    termination_message: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File for the result, as one line of JSON.", show_default="none"),
    ] = None,
) -> None:
    """Download the weights that endpoints need, verified and pinned to a commit.

        tritonllm weights sync --endpoints chat.yaml

    Complete weights cause no request, and interrupted downloads are resumed. The exit code is that of the first
    failure: 20 GatedRepo, 21 RepositoryNotFound, 22 RevisionNotFound, 23 Unauthorized, 24 RateLimited, 25 HubUnreachable, 26
    DiskFull, 27 NotWritable, 28 Corrupt, 29 NoSafetensors.
    """
    from tritonllm.commands import downloading
    from tritonllm.weights import report

    shown = downloading.display()
    results: list[report.Result] = []
    problem: report.Problem | None = None

    def end(problem: report.Problem | None) -> None:
        if termination_message is not None:
            _write(termination_message, report.message(results, problem))

    with downloading.stoppable(shown, lambda: end(downloading.stopped())):
        try:
            _sync(
                endpoints,
                cache,
                refresh=refresh,
                max_wait_seconds=max_wait,
                token_file=token_file,
                endpoint_url=endpoint_url,
                shown=shown,
                results=results,
            )
        except Exception as error:
            problem = _problem(error)
            shown.say(problem.message)
        finally:
            shown.close()
        end(problem)
    raise typer.Exit(report.exit_code(results, problem))


def _sync(
    paths: Sequence[Path],
    cache: Path,
    *,
    shown: Display,
    results: list[report.Result],
    **given: Any,
) -> None:
    from tritonllm import files
    from tritonllm.commands import downloading
    from tritonllm.weights import endpoints as weights_of
    from tritonllm.weights import layout, report

    # Validation in full takes seconds, which a start with complete weights must not cost.
    found = files.load_readable(paths, deep=False)
    place = layout.Cache(cache)
    if any(
        weights_of.missing(place, each) or weights_of.missing_adapters(place, each)
        for each in found.endpoints
    ):
        found = files.load_readable(paths)

    def done(result: report.Result) -> None:
        if result.problem is None:
            typer.echo(report.line(result))
        else:
            shown.say(report.line(result))

    for name, reason in found.unreadable.items():
        # `serve` skips it as well: the other endpoints are served.
        results.append(report.Result(name, problem=report.Problem("InvalidSpec", reason, 0)))
        done(results[-1])
    downloading.sync(found.endpoints, cache, shown=shown, results=results, done=done, **given)


def _problem(error: Exception) -> report.Problem:
    """The problem with which the whole command ended."""
    from tritonllm import files
    from tritonllm.weights import report

    if isinstance(error, files.Invalid):
        return report.Problem("InvalidSpec", str(error), 2)
    traceback.print_exception(error)
    return report.internal(error)


def _write(path: Path, text: str) -> None:
    try:
        # In place: a container's termination log is a mount point, which cannot be replaced by a rename.
        path.write_text(text + "\n")
    except OSError as error:
        typer.echo(f"cannot write the termination message {path}: {error.strerror}", err=True)


@app.command()
def verify(
    cache: Cache,
    repos: Annotated[
        list[str] | None,
        typer.Argument(metavar="ORG/NAME", help="Repositories to check.", show_default="all"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Compare SHA-256 digests, not only sizes.")] = False,
) -> None:
    """Check that weights have not changed since their download.

        tritonllm weights verify --full

    The exit code is 1 if any have.
    """
    from tritonllm.weights import check, layout

    found = []
    for checked in check.verify(layout.Cache(cache), repos or None, full=full):
        found.append(checked)
        typer.echo(_checked(checked))
    if not found:
        typer.echo(f"no weights of {', '.join(repos)} in {cache}" if repos else f"no weights in {cache}")
    unknown = set(repos or ()) - {checked.repo for checked in found}
    raise typer.Exit(1 if unknown or any(checked.problems for checked in found) else 0)


def _checked(checked: check.Checked) -> str:
    name = f"{checked.repo} at {checked.commit}"
    if not checked.problems:
        return f"{name}: whole"
    return "\n".join(f"{name}: {problem}" for problem in checked.problems)


@app.command("list")
def list_(
    cache: Cache,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the weights in the cache.

        tritonllm weights list --json

    Only complete weights are served.
    """
    from tritonllm.weights import inventory, layout

    entries = inventory.entries(layout.Cache(cache), _now())
    if as_json:
        typer.echo(json.dumps([_plain(entry) for entry in entries], indent=2))
    elif not entries:
        typer.echo(f"no weights in {cache}")
    else:
        _table(entries)


def _plain(entry: inventory.Entry) -> dict[str, Any]:
    return dataclasses.asdict(entry) | {"used": entry.used.isoformat(timespec="seconds")}


def _table(entries: Sequence[inventory.Entry]) -> None:
    import rich.console
    import rich.table

    from tritonllm.weights import sizes

    table = rich.table.Table(box=None, pad_edge=False)
    for column in ("repository", "commit", "revisions", "state", "size", "files", "last used"):
        table.add_column(column, justify="right" if column in ("size", "files") else "left", overflow="fold")
    for entry in entries:
        table.add_row(
            entry.repo,
            # The full commit is in the output of --json.
            entry.commit[:12],
            ", ".join(entry.revisions),
            _state(entry),
            sizes.readable(entry.size),
            str(entry.files),
            f"{entry.used:%Y-%m-%d %H:%M}",
        )
    # In a file or a pipe, lines are not wrapped.
    width = None if sys.stdout.isatty() else 200
    rich.console.Console(highlight=False, markup=False, width=width).print(table)


def _state(entry: inventory.Entry) -> str:
    if entry.progress is not None and entry.progress.bytes_total:
        return f"downloading, {100 * entry.progress.bytes_done // entry.progress.bytes_total} %"
    return f"{entry.state}, in use" if entry.in_use and entry.state == "complete" else entry.state


@app.command("gc")
def remove(
    cache: Cache,
    keep: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="File with LLMEndpoints whose weights to keep; can be repeated."),
    ],
    grace: Annotated[
        float, typer.Option(min=0, metavar="DAYS", help="Keep weights that were used within this time.")
    ] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
) -> None:
    """Remove weights that no endpoint needs and that were not used recently.

        tritonllm weights gc --keep chat.yaml --keep other.yaml --dry-run

    Weights that are being served or downloaded are kept.
    """
    from tritonllm import files
    from tritonllm.weights import endpoints as weights_of
    from tritonllm.weights import gc, layout, retention, sizes

    # One by one, because several files can have different versions of an endpoint.
    endpoints = [endpoint for file in files.expand(keep) for endpoint in files.load([file])]
    place = layout.Cache(cache)
    sources = [wants for endpoint in endpoints for wants in weights_of.sources(endpoint)]
    paths = [path for endpoint in endpoints for path in weights_of.paths(endpoint, str(cache))]
    needed = retention.needs(place, sources, paths)
    collected = gc.collect(place, needed, datetime.timedelta(days=grace), _now(), dry_run=dry_run)
    for verdict in collected.verdicts:
        typer.echo(_judged(verdict, dry_run=dry_run))
    for problem in collected.problems:
        typer.echo(problem, err=True)
    typer.echo(f"{sizes.readable(collected.size)} {'would be ' if dry_run else ''}removed")
    failed = collected.problems or any(verdict.problem for verdict in collected.verdicts)
    raise typer.Exit(1 if failed else 0)


def _judged(verdict: gc.Verdict, *, dry_run: bool) -> str:
    fate = ("would be removed" if dry_run else "removed") if verdict.goes else "kept"
    return f"{verdict.place.path}: {fate}: {verdict.problem or verdict.why.value}"


@app.command("import")
def import_(
    cache: Cache,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory with the files of one commit.")],
    repo: Annotated[
        str, typer.Option(metavar="ORG/NAME", help="Repository, as in `spec.model.repo` of the endpoints.")
    ],
    commit: Annotated[str, typer.Option(metavar="SHA", help="Commit hash, 40 hexadecimal digits.")],
    revision: Annotated[
        str, typer.Option(help="Branch or tag, as in `spec.model.revision` of the endpoints.")
    ] = "main",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="For endpoints that set `allowPickle`.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="For endpoints that set `trustRemoteCode`.")
    ] = False,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="A LoRA adapter, for `spec.adapters` of endpoints.")
    ] = False,
) -> None:
    """Import a directory of weights that was not downloaded by `sync`, such as on a machine without access to the Hub.

        tritonllm weights import ./model --repo org/name --commit 0123456789abcdef0123456789abcdef01234567

    The files are copied, unless they are in the cache already.
    """
    import pydantic

    from tritonllm import api
    from tritonllm.commands import downloading
    from tritonllm.weights import importing, layout, selection
    from tritonllm.weights import sync as syncing

    wanted = selection.Wanted(allow_pickle, trust_remote_code, adapter)
    try:
        model = api.Model(repo=repo, revision=revision)
    except pydantic.ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--repo or --revision") from None
    source = syncing.Source(repo, model.revision, wanted, commit)
    shown = downloading.display()
    with downloading.stoppable(shown):
        try:
            published = importing.import_directory(layout.Cache(cache), directory, source, shown.show)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        finally:
            shown.close()
    typer.echo(f"{repo} at {published.commit} is complete in {published.directory}")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
