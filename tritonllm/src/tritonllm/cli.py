"""The command line: combines the commands, and turns failures into messages and exit codes.

Entry point of `tritonllm` and `python -m tritonllm`. The commands are in `tritonllm.commands`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import typer
import typer.core
import typer.main

from tritonllm.commands import (
    bench,
    chat,
    gateway,
    generate,
    guard,
    importing,
    keys,
    render,
    serve,
    tune,
    validate,
    weights,
)

if TYPE_CHECKING:
    import importlib.metadata

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130


# Other packages add commands as entry points of this group.
_COMMANDS = "tritonllm.commands"


class _Group(typer.core.TyperGroup):
    """Turns expected errors of commands into a message and an exit code, and finds commands of other packages."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_added().names)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Other packages are only searched for unknown commands, because that takes time.
        return super().get_command(ctx, cmd_name) or _command(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            # Before the lookup among the errors, which imports everything.
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output closed it. Without this Python would report it again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except Exception as error:
            code = exit_code(error)
            if code is None:
                raise
            typer.echo(str(error) if code == MISTAKE else f"tritonllm: {error}", err=True)
            raise typer.Exit(code) from None


def _added() -> importlib.metadata.EntryPoints:
    import importlib.metadata

    return importlib.metadata.entry_points(group=_COMMANDS)


def _command(name: str) -> Any:
    found = [each for each in _added() if each.name == name]
    if not found:
        return None
    group = typer.Typer(context_settings=_SETTINGS, rich_markup_mode=None, add_completion=False)
    group.command(name)(found[0].load())
    return typer.main.get_command(group)


def exit_code(error: Exception) -> int | None:
    """The exit code for an expected error; None for a bug."""
    from tritonllm import client, files, serve
    from tritonllm.bench import failures as bench_failures
    from tritonllm.weights import failures

    if isinstance(error, failures.Failure):
        return error.exit_code
    if isinstance(error, (files.Invalid, client.InvalidRequest, bench_failures.InvalidBenchmark)):
        return MISTAKE
    if isinstance(
        error, (client.TritonLLMError, serve.PreflightError, bench_failures.BenchmarkFailed, OSError)
    ):
        return FAILED
    return None


_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
    epilog="Exit codes: 0 success, 1 failure, 2 invalid input, 3 blocked by a guardrail, 20 to 29 no weights"
    " (see `weights sync`), 130 interrupted.",
)
app.command("import")(importing.import_)
app.command()(validate.validate)
app.command()(render.render)
app.command()(serve.serve)
app.command()(gateway.gateway)
app.command()(generate.generate)
app.command()(chat.chat)
app.command()(guard.guard)
app.command()(tune.tune)
app.add_typer(bench.app, name="bench")
app.add_typer(keys.app, name="keys")
app.add_typer(weights.app, name="weights")


def _version(requested: bool) -> None:
    if requested:
        import importlib.metadata

        typer.echo(f"tritonllm {importlib.metadata.version('tritonllm')}")
        raise typer.Exit


@app.callback()
def _tritonllm(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """LLM endpoints with guardrails and streaming on Triton, from one YAML file.

    Write an endpoint for a model (`import`), validate it (`validate`), serve it (`serve`), send prompts to it (`generate`,
    `chat`), test its guardrails without a server (`guard`), measure it (`bench`), find its best engine arguments (`tune`),
    and manage its weights (`weights`) and API keys (`keys`).
    """


def main() -> None:
    """Runs the command line; does not return."""
    app(prog_name="tritonllm")
