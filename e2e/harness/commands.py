"""Runs the programs that a user of the chart has as well: docker, kind, kubectl and helm."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

_SHOWN_CHARACTERS = 4000

T = TypeVar("T")


class Failed(AssertionError):
    """A command failed; the text has the command and what it printed."""


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
) -> str:
    """Runs a command to its end.

    Args:
        command: the program and its arguments.
        stdin: what it reads.
        environment: complete; None for this process' own.
        seconds: how long it may take.

    Returns:
        What it printed on standard output.

    Raises:
        Failed: it is not on PATH, failed, or took too long.
    """
    if shutil.which(command[0]) is None:
        raise Failed(f"{command[0]} is not on PATH; e2e/README.md says what the scenarios need")
    try:
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"`{_shown(command)}` did not end within {seconds:.0f} s\n{error.stdout}") from None
    if done.returncode:
        output = f"{done.stdout}\n{done.stderr}".strip()[-_SHOWN_CHARACTERS:]
        raise Failed(f"`{_shown(command)}` failed with exit code {done.returncode}\n{output}")
    return done.stdout


def pipe(source: Sequence[str], sink: Sequence[str], *, seconds: float) -> None:
    """Runs two commands, the second on the output of the first.

    Args:
        source: writes.
        sink: reads.
        seconds: how long they may take.

    Raises:
        Failed: one of them failed, or it took too long.
    """
    shown = f"{shlex.join(source)} | {shlex.join(sink)}"
    run(["bash", "-o", "pipefail", "-c", shown], seconds=seconds)


def until(
    ask: Callable[[], T],
    seconds: float,
    what: str,
    *,
    ignore: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """Waits until an answer is true.

    Args:
        ask: asked again and again.
        seconds: how long.
        what: the condition in words, for the error.
        ignore: exceptions that count as a no.

    Returns:
        The first answer that is true.

    Raises:
        AssertionError: there was none in time; with the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            answer = ask()
            if answer:
                return answer
            last = answer
        except ignore as error:
            last = error
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}; last: {last!r}"
        time.sleep(0.25)


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)[:400]
