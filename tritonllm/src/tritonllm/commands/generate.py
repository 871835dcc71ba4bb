"""`tritonllm generate`: one prompt, answered on the terminal, or a file of prompts."""

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
        str | None, typer.Argument(metavar="[PROMPT]", help="The prompt.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with one prompt per line; a *.jsonl file has an object per line, with `prompt` or `messages`, and `sampling`.",
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File for the results, one JSON object per line.", show_default="stdout"
        ),
    ] = None,
    iterations: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of times to send all prompts.")
    ] = 1,
    concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum number of concurrent requests.")
    ] = 16,
    system: asking.System = None,
    max_tokens: asking.MaxTokens = None,
    temperature: asking.Temperature = None,
    top_p: asking.TopP = None,
    seed: asking.Seed = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Stop sequence; can be repeated.", show_default="none"),
    ] = None,
    url: asking.Url = None,
    protocol: asking.ProtocolOption = asking.Protocol.grpc,
    timeout: asking.Timeout = 600,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print how each answer ended.")] = False,
) -> None:
    """Send a prompt to an endpoint and stream the answer. The exit code is 3 if a guardrail blocked it.

        tritonllm generate chat "What is the capital of France?" --max-tokens 16

    The prompts of a file are sent concurrently. The results, including failures, are in the order of the prompts; the
    exit code is 1 if any request failed.

        tritonllm generate chat --prompts in.txt --results out.jsonl
    """
    from tritonllm import client

    if (prompt is None) == (prompts is None):
        raise typer.BadParameter("either a prompt or --prompts FILE is required", param_hint="PROMPT")
    if prompts is None and (results is not None or iterations != 1):
        raise typer.BadParameter("--results and --iterations require --prompts FILE", param_hint="--prompts")
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
    """A line about how an answer ended."""
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
