"""Memory that this process may still take: the machine's, or less where a container has a limit. For preflight."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
# By the controller in /proc/<pid>/cgroup, which v2 leaves empty. Kernel documentation, cgroup-v2.rst and
# cgroup-v1/memory.rst.
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available() -> int:
    """Bytes that can be taken before something is swapped or killed."""
    left = free_in_cgroups(Path("/proc/self/cgroup").read_text(), _CGROUPS)
    return min([psutil.virtual_memory().available, *left])


def free_in_cgroups(membership: str, root: Path) -> list[int]:
    """What the limits above a process leave it, for cgroup v1 and v2.

    Args:
        membership: its `/proc/<pid>/cgroup`.
        root: where cgroups are mounted. A container may see its own group there, and not under its path.

    Returns:
        Bytes, one number for each limit; the page cache that the kernel would give up counts as free.
    """
    found: list[int] = []
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":/")
        for controller in _FILES.keys() & set(controllers.split(",")):
            group = root / controller / path
            groups = [
                group,
                *(parent for parent in group.parents if parent.is_relative_to(root / controller)),
            ]
            found += [free for each in groups if (free := _free(each, *_FILES[controller])) is not None]
    return found


def _free(group: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    try:
        limit = (group / limit_name).read_text().strip()
        used = int((group / usage_name).read_text())
        rows = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cache = next((int(value) for name, value in rows if name == cache_name), 0)
    except (OSError, ValueError):
        return None
    # A limit of v1 that is none is a number beyond all memory.
    return None if limit == "max" else max(0, int(limit) - max(0, used - cache))
