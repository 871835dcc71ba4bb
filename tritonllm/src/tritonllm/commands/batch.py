"""Batches of `tritonllm generate`: prompts are read one by one, sent concurrently, and written in their order."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, BinaryIO

import typer

from tritonllm import client
from tritonllm.commands import asking


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One prompt.

    Attributes:
        line: line number in the file, from 1.
        arguments: arguments of the client.
        problem: why the line is invalid; empty if it is valid.
    """

    line: int
    arguments: dict[str, Any]
    problem: str = ""


def jobs(source: BinaryIO, *, jsonl: bool, system: str | None, sampling: dict[str, Any]) -> Iterator[Job]:
    """The prompts of a file.

    Args:
        source: one prompt per line; empty lines are skipped.
        jsonl: whether the lines are JSON objects with `prompt` (or `text_input`) or `messages`, and `sampling`.
        system: system message for prompts that are strings.
        sampling: for all prompts; an object's own parameters take precedence.
    """
    for number, line in enumerate(source, start=1):
        try:
            text = line.decode().rstrip("\r\n")
            if text.strip():
                asked, own = _object(text, system) if jsonl else (asking.question(text, system), {})
                yield Job(number, asked | sampling | own)
        except UnicodeDecodeError as error:
            yield Job(number, {}, f"is not UTF-8: bad byte at offset {error.start}")
        except (ValueError, RecursionError) as error:
            yield Job(number, {}, str(error))


def _object(text: str, system: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    match given:
        case {"prompt": str(prompt), **rest} | {"text_input": str(prompt), **rest}:
            asked = asking.question(prompt, system)
        case {"messages": list(messages), **rest}:
            asked: dict[str, Any] = {"messages": messages}
        case _:
            raise ValueError('must be {"prompt": "…"} or {"messages": […]}, with or without "sampling": {…}')
    chosen = rest.pop("sampling", {})
    if rest or not isinstance(chosen, dict):
        raise ValueError(f"has unknown fields: {', '.join(rest)}" if rest else "`sampling` must be an object")
    return asked, chosen


async def run(
    asker: client.AsyncClient,
    name: str,
    asked: Iterable[Job],
    sink: BinaryIO,
    iterations: int,
    concurrency: int,
    *,
    verbose: bool,
) -> int:
    """Sends all prompts and writes a result for each.

    Returns:
        The exit code: 1 if any request failed.
    """
    counts: collections.Counter[str] = collections.Counter()
    begun = time.monotonic()
    async with asker:
        async for result in _results(asker, name, _repeated(asked, iterations), concurrency):
            counts["ok" if result["ok"] else "failed"] += 1
            counts["blocked"] += result.get("finish_reason") == "content_filter"
            counts["tokens"] += result.get("output_tokens", 0)
            sink.write(json.dumps(result, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
            sink.flush()
            if verbose or not result["ok"]:
                typer.echo(_line(result), err=True)
    seconds = time.monotonic() - begun
    typer.echo(
        f"{counts['ok']} ok ({counts['blocked']} of them blocked by a guardrail), {counts['failed']} failed; "
        f"{counts['tokens']} tokens in {seconds:.1f} s, {counts['tokens'] / seconds:.1f} tok/s",
        err=True,
    )
    return 1 if counts["failed"] else 0


def _repeated(asked: Iterable[Job], iterations: int) -> Iterator[tuple[int, Job]]:
    # Kept in memory only if they are repeated: a file can be larger than memory.
    kept = asked if iterations == 1 else list(asked)
    return ((iteration, job) for iteration in range(iterations) for job in kept)


async def _results(
    asker: client.AsyncClient, name: str, work: Iterator[tuple[int, Job]], concurrency: int
) -> AsyncIterator[dict[str, Any]]:
    slots = asyncio.Semaphore(concurrency)
    waiting: collections.deque[asyncio.Task[dict[str, Any]]] = collections.deque()

    async def ask(iteration: int, job: Job) -> dict[str, Any]:
        try:
            return {"line": job.line, "iteration": iteration} | await _result(asker, name, job)
        finally:
            slots.release()

    try:
        for iteration, job in work:
            await slots.acquire()
            waiting.append(asyncio.create_task(ask(iteration, job)))
            while waiting and waiting[0].done():
                yield waiting.popleft().result()
        while waiting:
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()


async def _result(asker: client.AsyncClient, name: str, job: Job) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        if job.problem:
            raise client.InvalidRequest(job.problem)
        async with asker.stream(name, **job.arguments) as stream:
            async for _ in stream:
                pass
    except client.TritonLLMError as error:
        what = {"type": type(error).__name__, "message": str(error)}
        return {"ok": False, "error": what, "seconds": round(time.monotonic() - begun, 3)}
    answer = stream.answer
    more = (
        {"choices": [dataclasses.asdict(choice) for choice in answer.choices]}
        if len(answer.choices) > 1
        else {}
    )
    return {
        "ok": True,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "verdicts": [dataclasses.asdict(verdict) for verdict in answer.verdicts],
        "seconds": round(time.monotonic() - begun, 3),
    } | more


def _line(result: dict[str, Any]) -> str:
    where = f"line {result['line']}, iteration {result['iteration']}"
    if not result["ok"]:
        return f"{where}: {result['error']['type']}: {result['error']['message']}"
    return f"{where}: {result['finish_reason']}, {result['output_tokens']} tokens in {result['seconds']} s"
