"""Chooses what the container lacks, so that nothing is replaced that its vLLM was tested with.

The lock (requirements.txt) has a version of everything that tritonllm needs. A package that the container has, in
whatever version, stays; the rest is installed, in the locked version and with its hashes. Whether that is enough for
tritonllm, `pip check` says afterwards. Run as `python3 missing.py LOCK FOUND`, where FOUND is what
`pip list --format=freeze` prints; prints the part of the lock to install.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# Of these, the container's is replaced by the lock's, because tritonllm can't work with it.
REPLACED = frozenset(
    {
        "protobuf",  # 7 is there; tritonclient needs 6, with which vLLM works as well
    }
)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def held(lines: Iterable[str]) -> list[str]:
    """The packages of a list, a requirement a line, that stay as they are."""
    return [line for line in lines if (name := _name(line)) and name not in REPLACED]


def missing(lock: str, found: Iterable[str]) -> list[str]:
    """The requirements of a lock, each with its hashes, that have to be installed.

    Args:
        lock: a file of requirements with hashes, in pip's format.
        found: the packages that are there, as requirements.
    """
    there = {name for line in held(found) if (name := _name(line))}
    return [requirement for requirement in _requirements(lock) if _name(requirement) not in there]


def _requirements(lock: str) -> Iterator[str]:
    """Requirements of several lines: what is indented, or follows a backslash, belongs to the line before."""
    gathered: list[str] = []
    for line in lock.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if not line[0].isspace() and gathered:
            yield "\n".join(gathered)
            gathered = []
        gathered.append(line)
    if gathered:
        yield "\n".join(gathered)


def _name(requirement: str) -> str | None:
    """The name before a version, as https://packaging.python.org/en/latest/specifications/name-normalization/ has it."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else None


if __name__ == "__main__":
    print(*missing(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text().splitlines()), sep="\n")
