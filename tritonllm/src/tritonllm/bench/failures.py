"""What keeps a benchmark from running or from having a result, in one sentence that says what to do."""

from __future__ import annotations


class InvalidBenchmark(ValueError):
    """The command line or a file asks for something that cannot be run."""


class BenchmarkFailed(Exception):
    """The benchmark could not run: no server, no AIPerf, no result."""


class NotServed(BenchmarkFailed):
    """The server of a file does not get ready.

    Attributes:
        said: its last lines.
    """

    def __init__(self, message: str, said: str) -> None:
        super().__init__(f"{message}:{said}")
        self.said = said
