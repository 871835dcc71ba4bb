"""The processes of a server: what each of them does, and what it uses."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping

import psutil

_GATEWAY = " -m tritonllm gateway "
_STUB = re.compile(r"/([^/ ]+)/1/model\.py")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the processes of one role hold.

    Attributes:
        processes: how many there are.
        threads: of all of them.
        descriptors: open files of all of them, sockets among them.
        memory_mb: resident memory of all of them, in MiB.
    """

    processes: int = 0
    threads: int = 0
    descriptors: int = 0
    memory_mb: float = 0.0


def tree(pid: int, first: str) -> Iterator[tuple[str, psutil.Process]]:
    """A process and its children, each after its role; those that end meanwhile are left out.

    Args:
        pid: of the server.
        first: what that process does; see `roles`.
    """
    rows: dict[int, tuple[int, str]] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    rows[process.pid] = (process.ppid(), " ".join(process.cmdline()))
                    yield roles(rows, first)[process.pid], process


def roles(rows: Mapping[int, tuple[int, str]], first: str) -> dict[int, str]:
    """What each process does.

    Args:
        rows: by process id, the parent's id and the command line; parents come before their children.
        first: what the first process does; `server` for vLLM's own.
    """
    found: dict[int, str] = {}
    for pid, (parent, command) in rows.items():
        above = found.get(parent)
        if stub := _STUB.search(command):
            suffix = stub[1].rpartition("-")[2]
            found[pid] = suffix if suffix in ("engine", "guardrail") else "pipeline"
        elif _GATEWAY in command:
            found[pid] = "gateway"
        elif pathlib.PurePath(command.partition(" ")[0]).name == "tritonserver":
            found[pid] = "tritonserver"
        else:
            found[pid] = "core" if above in ("engine", "server", "core") else above or first
    return found


def cpu_seconds(pid: int, first: str) -> dict[str, float]:
    """CPU time so far by role; see `tree`."""
    used: dict[str, float] = {}
    for role, process in tree(pid, first):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used[role] = used.get(role, 0.0) + times.user + times.system
    return used


def usage(pid: int, first: str) -> dict[str, Usage]:
    """What the processes of each role hold; see `tree`."""
    held: dict[str, Usage] = {}
    for role, process in tree(pid, first):
        with contextlib.suppress(psutil.Error):
            before = held.get(role, Usage())
            held[role] = Usage(
                before.processes + 1,
                before.threads + process.num_threads(),
                before.descriptors + process.num_fds(),
                before.memory_mb + process.memory_info().rss / 2**20,
            )
    return held


def socket_files(pid: int) -> set[pathlib.Path]:
    """Files of the Unix sockets that the processes of a server have open; see `tree`."""
    found: set[pathlib.Path] = set()
    for _, process in tree(pid, ""):
        with contextlib.suppress(psutil.Error):
            paths = (str(connection.laddr) for connection in process.net_connections("unix"))
            found |= {pathlib.Path(path) for path in paths if path.startswith("/")}
    return found
