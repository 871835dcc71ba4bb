"""The folder of a benchmark: one run writes into it at a time, and whole files only.

`result.json` and `result.csv` of a measurement, `aiperf/` with AIPerf's own files, and logs. A sweep has a folder
like it for each point, below `points/`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from tritonllm.bench import failures, results

RESULT = "result.json"
_ROOM = 64 << 10


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
        # The space may be what the next file needs.
        partial.unlink(missing_ok=True)
        # A full disk is told without the file.
        raise OSError(error.errno, error.strerror, str(path)) from None


def full(folder: Path) -> bool:
    """Whether the disk of a folder has no room for a result."""
    return shutil.disk_usage(folder).free < _ROOM


def claim(folder: Path, name: str, wanted: Mapping[str, Any], what: str) -> None:
    """Writes the settings of a run into a new folder, or compares them with those of an old one.

    Args:
        folder: for the results.
        name: of the file of settings.
        wanted: the settings.
        what: the kind of run, for messages, such as `a sweep`.

    Raises:
        failures.InvalidBenchmark: the folder has a run with other settings, or the result of one measurement.
        OSError: the folder cannot be written.
    """
    file = folder / name
    if (folder / RESULT).exists():
        raise failures.InvalidBenchmark(f"{folder} has the result of one measurement; name another --output")
    try:
        known = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        write(file, orjson.dumps(wanted, option=orjson.OPT_INDENT_2))
        return
    except ValueError:
        known = None
    encoded = orjson.loads(orjson.dumps(wanted))
    if not isinstance(known, dict):
        raise failures.InvalidBenchmark(f"{file} cannot be read; name another --output")
    if different := [name for name in encoded if known.get(name) != encoded[name]]:
        raise failures.InvalidBenchmark(
            f"{folder} has {what} with another {', '.join(different)}; name another --output"
        )


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
