"""Gives the shared memory of vLLM's processes names by which `serve` can remove it, whatever happened to them.

Python takes random names (`psm_…`, `sem.mp-…`) and leaves the removal to a helper process of its own. Where
that is killed too, by an out-of-memory kill of a whole container for example, no one could tell whose they are.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
from multiprocessing import shared_memory

VARIABLE = "TRITONLLM_REGION_PREFIX"


def enable() -> None:
    """Makes this process name its shared memory after the supervisor that owns it; without one, as Python does.

    Processes that it starts inherit the names of semaphores. Those of shared memory each has to choose itself.
    """
    prefix = os.environ.get(VARIABLE)
    if not prefix:
        return
    # Python has no public way to choose them. Both are the same in CPython 3.11 to 3.13.
    shared_memory._make_filename = lambda: f"/{prefix}{secrets.token_hex(8)}"  # pyright: ignore[reportAttributeAccessIssue]
    multiprocessing.current_process()._config["semprefix"] = f"/{prefix}mp"  # pyright: ignore[reportAttributeAccessIssue]
