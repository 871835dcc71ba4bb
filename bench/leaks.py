"""What a server holds while it is under load, and whether that keeps growing."""

from __future__ import annotations

import asyncio
import pathlib
import statistics
import time
from collections.abc import Mapping, Sequence

import processes
from integration import server

_SHARED_MEMORY = pathlib.Path("/dev/shm")
_SAMPLE_SECONDS = 1.0
# Regions grow to what the load needs and stay as large; what is beyond this and grows on is a leak.
_TOLERANCE = 1.2
_TOLERATED_BYTES = 4 << 20
# For a minute after its end, a request can hold what it used.
_FEWEST_SAMPLES = 180
# A pool makes a thread, and a keep-alive connection takes a descriptor, when it is needed first.
_TOLERATED_HANDLES = 16


class Watch:
    """Samples a server's shared memory, and the files of its sockets, until it is cancelled.

    Args:
        served: the server.

    Attributes:
        shared_memory: bytes, sample by sample.
        socket_files: files of Unix sockets that its processes have had open.
    """

    def __init__(self, served: server.Served) -> None:
        self.shared_memory: list[int] = []
        self.socket_files: set[pathlib.Path] = set()
        self._served = served

    async def run(self) -> None:
        """Takes a sample a second."""
        begun = time.monotonic()
        while True:
            self.shared_memory.append(shared_memory(self._served.pid))
            self.socket_files |= await asyncio.to_thread(processes.socket_files, self._served.pid)
            begun += _SAMPLE_SECONDS
            await asyncio.sleep(max(0.0, begun - time.monotonic()))


def shared_memory(pid: int) -> int:
    """Bytes that the regions of a server take."""
    files = {file for name in server.owned(pid) for file in server.shared_memory(name)}
    total = 0
    for file in files:
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def keeps_growing(samples: Sequence[float]) -> bool:
    """Whether each of the last three quarters is larger than the one before, and the growth is considerable.

    The first quarter is left out, in which memory grows to what the load needs. Too few samples say nothing.
    """
    if len(samples) < _FEWEST_SAMPLES:
        return False
    size = len(samples) // 4
    quarters = [statistics.median(samples[part * size : (part + 1) * size]) for part in range(4)]
    considerable = max(_TOLERANCE * quarters[1], quarters[1] + _TOLERATED_BYTES)
    return quarters[1] < quarters[2] < quarters[3] and quarters[3] > considerable


def grown(
    before: Mapping[str, processes.Usage], after: Mapping[str, processes.Usage], inherited: int
) -> list[str]:
    """What a server holds more of after a load than before, in sentences.

    Args:
        before: of each role.
        after: likewise, when no request runs any more.
        inherited: descriptors that a process can have from its parent: a model's process that was started again has
            all connections that tritonserver had at that time.
    """
    tolerated = {"processes": 0, "threads": _TOLERATED_HANDLES, "descriptors": _TOLERATED_HANDLES + inherited}
    found = []
    for role in before.keys() | after.keys():
        old, new = before.get(role, processes.Usage()), after.get(role, processes.Usage())
        for what, allowed in tolerated.items():
            if getattr(new, what) > getattr(old, what) + allowed:
                found.append(f"{role} has {getattr(new, what)} {what}, and had {getattr(old, what)}")
    return sorted(found)
