"""Downloads of weights on the command line: progress, results, and signals.

Used by `tritonllm weights sync`, and by `tritonllm serve`, which downloads missing weights first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    import rich.progress

    from tritonllm import api
    from tritonllm.weights import progress, report
    from tritonllm.weights.hub import Hub

_PERIOD_SECONDS = 10.0
_STOPPED = "stopped; downloaded files are kept and not downloaded again"


class Display(Protocol):
    """Shows the progress of a download; called from several threads."""

    def show(self, state: progress.State) -> None:
        """Shows the progress; called about once a second."""
        ...

    def say(self, sentence: str) -> None:
        """Prints a message."""
        ...

    def close(self) -> None:
        """Restores the terminal until the next call of `show`."""
        ...


class Lines:
    """Plain lines, for logs: at most one every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._latest = -_PERIOD_SECONDS

    def show(self, state: progress.State) -> None:
        """See Display."""
        now = time.monotonic()
        if state.bytes_total and now - self._latest >= _PERIOD_SECONDS:
            self._latest = now
            self.say(described(state))

    def say(self, sentence: str) -> None:
        """See Display."""
        # A closed log must not end the download.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{sentence}\n")
            self._stream.flush()

    def close(self) -> None:
        """See Display."""


class Terminal:
    """A progress bar with messages above it."""

    def __init__(self) -> None:
        import rich.console

        self._console = rich.console.Console(stderr=True, highlight=False)
        self._bars: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def show(self, state: progress.State) -> None:
        """See Display."""
        if self._bars is None or self._task is None:
            self._bars, self._task = self._started(state)
        files = f"{state.files_done} of {state.files_total} files"
        self._bars.update(
            self._task,
            completed=state.bytes_done,
            total=state.bytes_total or None,
            note=state.message or files,
        )

    def say(self, sentence: str) -> None:
        """See Display."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    def close(self) -> None:
        """See Display."""
        bars, self._bars = self._bars, None
        if bars is not None:
            bars.stop()

    def _started(self, state: progress.State) -> tuple[rich.progress.Progress, rich.progress.TaskID]:
        from rich import progress as shown

        bars = shown.Progress(
            shown.TextColumn("{task.description}", markup=False),
            shown.BarColumn(),
            shown.DownloadColumn(),
            shown.TransferSpeedColumn(),
            shown.TimeRemainingColumn(),
            shown.TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=self._console,
        )
        bars.start()
        return bars, bars.add_task(state.repo, total=None, note="")


def display() -> Display:
    """The display that suits standard error."""
    return Terminal() if sys.stderr.isatty() else Lines(sys.stderr)


def described(state: progress.State) -> str:
    """The progress of a download, as one line."""
    from tritonllm.weights import sizes

    share = 100 * state.bytes_done // state.bytes_total
    parts = [
        f"{state.repo}: {sizes.readable(state.bytes_done)} of {sizes.readable(state.bytes_total)} ({share} %)",
        f"{state.files_done} of {state.files_total} files",
    ]
    if state.message:
        parts.append(state.message)
    elif state.bytes_per_second > 0:
        left = (state.bytes_total - state.bytes_done) / state.bytes_per_second
        parts += [f"{sizes.readable(state.bytes_per_second)}/s", f"{_duration(left)} left"]
    return ", ".join(parts)


def sync(
    endpoints: Sequence[api.LLMEndpoint],
    cache: Path,
    *,
    refresh: bool = False,
    max_wait_seconds: float = 300,
    token_file: Path | None = None,
    endpoint_url: str | None = None,
    shown: Display,
    results: list[report.Result],
    done: Callable[[report.Result], None],
) -> None:
    """Downloads the missing weights of endpoints.

    Args:
        endpoints: the endpoints.
        cache: root of the weights.
        refresh: resolve branches and tags again.
        max_wait_seconds: how long to retry without progress.
        token_file: file with the Hub's token.
        endpoint_url: URL of the Hub or a mirror; None for the default.
        shown: shows the progress.
        results: the list to which each endpoint's result is added.
        done: called with each result.
    """
    from tritonllm.weights import endpoints as weights_of
    from tritonllm.weights import layout
    from tritonllm.weights import sync as syncing

    def hub() -> Hub:
        from tritonllm.weights import hub as hubs
        from tritonllm.weights import token

        return hubs.Hub(endpoint_url, token.read(token_file, os.environ))

    def finish(result: report.Result) -> None:
        shown.close()
        results.append(result)
        done(result)

    options = syncing.Options(
        hub, refresh=refresh, max_wait_seconds=max_wait_seconds, show=shown.show, say=shown.say
    )
    weights_of.bring(layout.Cache(cache), endpoints, options, done=finish, bug=traceback.print_exception)


@contextlib.contextmanager
def stoppable(shown: Display, last: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ends the process at once on SIGTERM or SIGINT, inside the block.

    No clean-up is needed: an interrupted download is resumed by the next one. Without a handler, the first process of
    a container would ignore SIGTERM.

    Args:
        shown: the display to close.
        last: called before the process ends.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(Exception):
            shown.close()
            last()
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{_STOPPED}\n".encode())
        os._exit(128 + number)

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def stopped() -> report.Problem:
    """The problem for the termination message of a stopped process."""
    from tritonllm.weights import report

    return report.Problem("Interrupted", _STOPPED, 128 + signal.SIGTERM)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes >= 3 else f"{minutes * 60 + rest} s"
