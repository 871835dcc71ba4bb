"""Files of prompts, one JSON object per line, turned into what AIPerf reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tritonllm.bench import failures

_SHAPES = "an object with `prompt`, or with `instruction` and `input`"


def converted(lines: Iterable[str], source: str) -> Iterator[dict[str, Any]]:
    """The prompts of a file as entries of AIPerf's dataset type `single_turn`.

    A line is an object with `prompt` (or `text`, AIPerf's own name), or with `instruction` and, if it has one, `input`,
    as data sets for instruction tuning have; their `output` is not sent. `max_tokens` is the maximum length of this
    answer. Empty lines are skipped.

    Args:
        lines: of the file.
        source: its name, for messages.

    Raises:
        failures.InvalidBenchmark: a line is something else, or there is none.
    """
    count = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _entry(line, f"{source}:{number}")
            count += 1
    if not count:
        raise failures.InvalidBenchmark(f"{source}: has no prompts; each line is {_SHAPES}")


def texts(file: Path) -> list[str]:
    """The prompts of a file that `converted` has made.

    Raises:
        OSError: it cannot be read.
    """
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise failures.InvalidBenchmark(f"{where}: is not JSON ({error}); a line is {_SHAPES}") from None
    text = _text(given) if isinstance(given, dict) else None
    if not text:
        raise failures.InvalidBenchmark(f"{where}: has no prompt; a line is {_SHAPES}")
    length = given.get("max_tokens")
    if length is None:
        return {"text": text}
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise failures.InvalidBenchmark(f"{where}: `max_tokens` is a number of tokens, not {length!r}")
    return {"text": text, "output_length": length}


def _text(given: dict[str, Any]) -> str | None:
    for name in ("prompt", "text"):
        if isinstance(given.get(name), str):
            return given[name]
    parts = [given.get("instruction"), given.get("input")]
    if not all(part is None or isinstance(part, str) for part in parts):
        return None
    return "\n\n".join(part for part in parts if part)
