"""The processes of a benchmark: AIPerf, and `tritonllm serve` where a file is benchmarked.

Each runs in a session of its own, so that the terminal's Ctrl-C reaches it once and through us: AIPerf then writes the
results that it has, and a second Ctrl-C ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tritonllm.bench import failures

_STOP_SECONDS = 60
_LAST_LINES = 8


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, progress: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program for the block, and ends it and its descendants with it.

    Args:
        command: its command line.
        environment: the complete one.
        log: file for what it prints.
        progress: let it write to our stderr.

    Raises:
        failures.BenchmarkFailed: it cannot be started.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if progress else output,
                start_new_session=True,
            )
        except OSError as error:
            raise failures.BenchmarkFailed(f"{command[0]} cannot be started: {error.strerror}") from None
        try:
            yield process
        finally:
            _end(process)


def interrupted(process: subprocess.Popen[bytes]) -> bool:
    """Waits for the end of a program; passes Ctrl-C on to it.

    Returns:
        Whether Ctrl-C was pressed.

    Raises:
        KeyboardInterrupt: it was pressed twice.
    """
    try:
        process.wait()
    except KeyboardInterrupt:
        print("Stopping; the results until now are kept. Ctrl-C again discards them.", file=sys.stderr)
        process.send_signal(signal.SIGINT)
        process.wait()
        return True
    return False


def last_lines(log: Path) -> str:
    """The end of a log, indented, for a message."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "".join(f"\n    {line}" for line in lines[-_LAST_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    # Also what it has left behind: its session is its process group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
