"""`tritonllm chat`: a conversation with an endpoint in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonllm.commands import asking, generate

if TYPE_CHECKING:
    from tritonllm import client


def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the endpoint.")],
    system: asking.System = None,
    max_tokens: asking.MaxTokens = None,
    temperature: asking.Temperature = None,
    top_p: asking.TopP = None,
    seed: asking.Seed = None,
    url: asking.Url = None,
    protocol: asking.ProtocolOption = asking.Protocol.grpc,
    timeout: asking.Timeout = 600,
) -> None:
    """Chat with an endpoint.

        tritonllm chat chat --system "You are a pirate."

    Ctrl-C stops an answer, Ctrl-D exits.
    """
    from tritonllm import client

    sampling = asking.given(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    with client.Client(asking.address(url, protocol), timeout=timeout) as asker:
        while (text := _read()) is not None:
            if text.strip():
                messages = _exchange(asker, name, [*messages, {"role": "user", "content": text}], sampling)


def _read() -> str | None:
    """The next message of the user; None at the end of the input."""
    interactive = sys.stdin.isatty()
    if interactive:
        # Adds line editing and history to input().
        import readline  # noqa: F401
    while True:
        try:
            return input("> " if interactive else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            typer.echo("\n(Ctrl-D exits)", err=True)


def _exchange(
    asker: client.Client, name: str, messages: list[dict[str, Any]], sampling: dict[str, Any]
) -> list[dict[str, Any]]:
    """Requests the next answer and prints it.

    Returns:
        The conversation with the answer; without the last message if there was none, because a prompt that a
        guardrail blocks would be blocked again with every later message.
    """
    from tritonllm import client

    written: list[str] = []
    stream = asker.stream(name, messages=messages, **sampling)
    try:
        with stream:
            for chunk in stream:
                written.append(chunk.text)
                typer.echo(chunk.text, nl=False)
        typer.echo()
        if stream.answer.finish_reason != "stop":
            typer.echo(generate.ending(stream.answer), err=True)
    except KeyboardInterrupt:
        typer.echo("\n[stopped]", err=True)
    except client.TritonLLMError as error:
        typer.echo(f"\n{type(error).__name__}: {error}", err=True)
    text = "".join(written)
    return [*messages, {"role": "assistant", "content": text}] if text else messages[:-1]
