"""The folder of a benchmark: one run writes into it at a time, and whole files only.

`result.json` and `result.csv` of a measurement, `aiperf/` with AIPerf's own files, and logs. A sweep has a folder
like it for each point, below `points/`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from tritonllm.bench import failures, results

RESULT = "result.json"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates the folder, and keeps other runs out of it for the block.

    Raises:
        failures.BenchmarkFailed: another run writes into it.
        OSError: it cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise failures.BenchmarkFailed(
                f"another run writes into {folder}; name another --output"
            ) from None
        yield


def write(path: Path, content: str | bytes) -> None:
    """Writes a file as a whole, or not at all.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        # A full disk is told without the file.
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_result(folder: Path, result: results.Result) -> None:
    """Writes `result.json`."""
    write(folder / RESULT, orjson.dumps(result.encoded(), option=orjson.OPT_INDENT_2))


def read_result(folder: Path) -> results.Result | None:
    """The result in a folder; None if there is none.

    Raises:
        failures.InvalidBenchmark: the file is not one that `write_result` has written.
    """
    file = folder / RESULT
    try:
        return results.decoded(orjson.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise failures.InvalidBenchmark(f"{file} is not a result of this version; remove it") from None
