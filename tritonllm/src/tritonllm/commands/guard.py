"""`tritonllm guard`: an endpoint's guardrails without a server, to test a policy or to filter files."""

from __future__ import annotations

import codecs
import enum
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

if TYPE_CHECKING:
    from tritonllm import guardrails

BLOCKED = 3
_READ = 65536


class Direction(enum.StrEnum):
    """Which list of a policy's rules to apply."""

    input = "input"
    output = "output"


def guard(
    policy: Annotated[
        Path,
        typer.Option(metavar="POLICY.yaml", help="File with a `guardrails` section or an LLMEndpoint."),
    ],
    direction: Annotated[
        Direction, typer.Option(help="Rules for prompts (input) or for answers (output).")
    ] = Direction.input,
    chunk: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Process N characters at a time.", show_default="as they arrive"
        ),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Read and write one JSON object per line.")] = False,
) -> None:
    """Apply a policy's rules to standard input.

        tritonllm guard --policy chat.yaml < question.txt

    Text is printed as soon as no rule can match it any more. The verdicts follow on standard error, each as
    `{"rule", "action", "start", "end"}` with character offsets in the original. The exit code is 3 if a Block rule
    matched.

        tritonllm guard --policy chat.yaml --jsonl < records.jsonl

    Each line is `{"text": "…"}` or `{"chunks": ["…", "…"]}`, and the result is `{"text", "blocked", "verdicts"}`. For
    an invalid line it is `{"error", "line"}`, and the exit code is 1.
    """
    from tritonllm import files, guardrails

    if jsonl and chunk is not None:
        raise typer.BadParameter(
            "cannot be combined with --jsonl; use `chunks` in the JSON objects", param_hint="--chunk"
        )
    rules = getattr(files.load_policy(policy), direction.value)
    compiled = guardrails.compile(rules)
    if unapplied := [rule.name for rule in rules if rule.classifier is not None]:
        typer.echo(
            f"not applied, because they ask a classifier, which needs a server: {', '.join(unapplied)}",
            err=True,
        )
    if jsonl:
        raise typer.Exit(_records(compiled, sys.stdin.buffer))
    raise typer.Exit(_text(compiled, sys.stdin.buffer, chunk))


def _text(policy: guardrails.Policy, source: BinaryIO, size: int | None) -> int:
    stream = policy.stream()
    for piece in pieces(source, size):
        _write(stream.feed(piece))
        if stream.blocked:
            break
    else:
        _write(stream.finish())
    for verdict in stream.verdicts:
        typer.echo(json.dumps(_plain(verdict)), err=True)
    return BLOCKED if stream.blocked else 0


def pieces(source: BinaryIO, size: int | None) -> Iterator[str]:
    """Decodes UTF-8 and yields it in chunks, as they arrive or of a fixed size.

    Raises:
        typer.BadParameter: the input is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = getattr(source, "read1", source.read)
    offset = 0
    while True:
        data = read(_READ)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = offset - (len(error.object) - len(data)) + error.start
            raise typer.BadParameter(
                f"not UTF-8: bad byte at offset {place}", param_hint="standard input"
            ) from None
        offset += len(data)
        yield from (text[at : at + size] for at in range(0, len(text), size)) if size else [text]
        if not data:
            return


def _records(policy: guardrails.Policy, source: BinaryIO) -> int:
    code = 0
    for number, line in enumerate(source, start=1):
        try:
            found = record(policy, line)
        except ValueError as error:
            found = {"error": str(error), "line": number}
            code = 1
        _write(_json(found) + "\n")
    return code


def record(policy: guardrails.Policy, line: bytes) -> dict[str, Any]:
    """Applies the rules to one line of `--jsonl`.

    Raises:
        ValueError: the line is invalid.
    """
    try:
        given = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: bad byte at offset {error.start}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    match given:
        case {"text": str(text), **rest} if not rest:
            result = policy.scan(text)
            text, blocked, verdicts = result.text, result.blocked, result.verdicts
        case {"chunks": [*chunks], **rest} if not rest and all(isinstance(chunk, str) for chunk in chunks):
            stream = policy.stream()
            text = "".join([*map(stream.feed, chunks), stream.finish()])
            blocked, verdicts = stream.blocked, stream.verdicts
        case _:
            raise ValueError('must be {"text": "…"} or {"chunks": ["…", …]}')
    return {"text": text, "blocked": blocked, "verdicts": [_plain(verdict) for verdict in verdicts]}


def _plain(verdict: guardrails.Verdict) -> dict[str, Any]:
    return {"rule": verdict.rule, "action": verdict.action, "start": verdict.start, "end": verdict.end}


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # JSON can escape a lone surrogate, UTF-8 cannot encode it.
        return json.dumps(value)
    return text


def _write(text: str) -> None:
    # Not through the text layer, which uses the locale's encoding and translates line ends.
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
