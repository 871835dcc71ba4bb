"""A program that the supervisor runs: its process, its output and its exit status."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import BinaryIO

from tritonllm.serve import log_tail, threads

# A progress bar ends its lines with a carriage return.
_LINE_END = re.compile(rb"[\r\n]+")
_CHUNK = 65536


class Child:
    """A running program, in a session of its own so that a terminal's Ctrl-C does not reach it.

    Attributes:
        pid: its process id, which is the id of its session as well.
        log: the newest lines that it and its descendants printed.
    """

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], output: BinaryIO
    ) -> None:
        """Starts it.

        Args:
            name: of the program, for messages.
            command: its command line.
            environment: the complete environment.
            output: receives everything that it and its descendants print.

        Raises:
            OSError: it can't be started.
        """
        self._name = name
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.log = log_tail.LogTail()
        self._reader = threads.start(f"{name}-output", lambda: self._read(output), self._unread)

    def exit_status(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def death(self, lines: int) -> str | None:
        """How it ended, with its last lines; None while it runs."""
        status = self.exit_status()
        if status is None:
            return None
        self.close()
        last = "".join(f"\n    {line}" for line in self.log.last(lines))
        return f"{self._name} ended ({status}){'; its last lines:' if last else ''}{last}"

    def terminate(self) -> None:
        """Asks it to end in order."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once, but not its descendants: Triton's models may wait for ever for an answer about a metric."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Waits a moment for the rest of the output, as its descendants may outlive it."""
        self._reader.join(timeout=0.3)

    def _read(self, output: BinaryIO) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as printed:
            unfinished = b""
            while chunk := os.read(printed.fileno(), _CHUNK):
                *lines, unfinished = _LINE_END.split(unfinished + chunk)
                for line in lines:
                    self.log.append(line.decode(errors="replace").rstrip())
                with contextlib.suppress(OSError, ValueError):
                    output.write(chunk)
                    output.flush()
            if unfinished:
                self.log.append(unfinished.decode(errors="replace").rstrip())

    def _unread(self, error: Exception) -> None:
        # Without a reader its output would block it; the supervisor restarts it.
        self.log.append(f"reading the output of {self._name} failed: {error!r}")
        self._process.kill()
