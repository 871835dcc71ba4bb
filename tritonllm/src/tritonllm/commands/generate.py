"""`tritonllm generate`: one prompt to the terminal, or a file of them to a file of results."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonllm.commands import asking

if TYPE_CHECKING:
    from tritonllm import client

BLOCKED = 3


def generate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the endpoint.")],
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="What to ask.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A prompt a line; in a *.jsonl file an object a line: `prompt` or `messages`, and `sampling`.",
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where results go, JSON a line.", show_default="stdout"),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, metavar="N", help="Ask all prompts so many times.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Requests under way at once.")] = 16,
    system: asking.System = None,
    max_tokens: asking.MaxTokens = None,
    temperature: asking.Temperature = None,
    top_p: asking.TopP = None,
    seed: asking.Seed = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="A text that ends the answer; may be repeated.", show_default="none"),
    ] = None,
    url: asking.Url = None,
    protocol: asking.ProtocolOption = asking.Protocol.grpc,
    timeout: asking.Timeout = 600,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show how each answer ended.")
    ] = False,
) -> None:
    """Ask an endpoint. The answer appears as it is written; exit code 3 says that a guardrail stopped it.

        tritonllm generate chat "What is the capital of France?" --max-tokens 16

    Many prompts run side by side. Their results are in the order of the prompts, failures among them; the exit
    code is 1 if there are any.

        tritonllm generate chat --prompts in.txt --results out.jsonl
    """
    from tritonllm import client

    if (prompt is None) == (prompts is None):
        raise typer.BadParameter("give either a prompt or --prompts FILE", param_hint="PROMPT")
    if prompts is None and (results is not None or iterations != 1):
        raise typer.BadParameter("--results and --iterations go with --prompts FILE", param_hint="--prompts")
    sampling = asking.given(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop)
    address = asking.address(url, protocol)
    if prompt is not None:
        with client.Client(address, timeout=timeout) as asker:
            raise typer.Exit(_one(asker, name, asking.question(prompt, system), sampling, verbose=verbose))
    assert prompts is not None
    import asyncio

    from tritonllm.commands import batch

    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open(prompts, "rb"))
        sink = stack.enter_context(_open(results, "wb")) if results else sys.stdout.buffer
        jobs = batch.jobs(source, jsonl=prompts.suffix == ".jsonl", system=system, sampling=sampling)
        asker = client.AsyncClient(address, timeout=timeout)
        work = batch.run(asker, name, jobs, sink, iterations, concurrency, verbose=verbose)
        raise typer.Exit(asyncio.run(work))


def _one(
    asker: client.Client, name: str, asked: dict[str, Any], sampling: dict[str, Any], *, verbose: bool
) -> int:
    with asker.stream(name, **asked, **sampling) as stream:
        for chunk in stream:
            typer.echo(chunk.text, nl=False)
        typer.echo()
    answer = stream.answer
    if verbose or answer.finish_reason != "stop":
        typer.echo(ending(answer), err=True)
    return BLOCKED if answer.finish_reason == "content_filter" else 0


def ending(answer: client.Answer) -> str:
    """How an answer ended, in one line."""
    parts = [
        f"finish reason {answer.finish_reason}",
        f"{answer.input_tokens} tokens in, {answer.output_tokens} out",
    ]
    for verdict in answer.verdicts:
        parts.append(f"{verdict.direction} rule {verdict.rule}: {verdict.action} ({verdict.count})")
    return f"[{'; '.join(parts)}]"


def _open(path: Path, mode: str) -> Any:
    try:
        return path.open(mode)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
