"""What keeps a benchmark from running or from having a result, in one sentence that says what to do."""

from __future__ import annotations


class InvalidBenchmark(ValueError):
    """The command line or a file asks for something that cannot be run."""


class BenchmarkFailed(Exception):
    """The benchmark could not run: no server, no AIPerf, no result."""
