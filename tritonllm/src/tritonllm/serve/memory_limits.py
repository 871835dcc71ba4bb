"""Memory that is available to this process: the machine's, or less if a container limits it. Used by preflight."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
# Keyed by the controller in /proc/<pid>/cgroup, which is empty for v2. Kernel documentation, cgroup-v2.rst and
# cgroup-v1/memory.rst.
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available() -> int:
    """Bytes that can be allocated before the kernel swaps or kills."""
    left = free_in_cgroups(Path("/proc/self/cgroup").read_text(), _CGROUPS)
    return min([psutil.virtual_memory().available, *left])


def free_in_cgroups(membership: str, root: Path) -> list[int]:
    """Free memory under each cgroup limit that applies to a process (v1 and v2).

    Args:
        membership: contents of its `/proc/<pid>/cgroup`.
        root: mount point of cgroups. A container may see its own group there instead of under its path.

    Returns:
        Bytes, one number per limit; reclaimable page cache counts as free.
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
    # cgroup v1 reports 'no limit' as a huge number, which needs no special case.
    return None if limit == "max" else max(0, int(limit) - max(0, used - cache))
