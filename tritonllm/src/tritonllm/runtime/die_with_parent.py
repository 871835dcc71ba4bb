"""Ends vLLM's own processes with the process that made them, however that one ends.

vLLM works in child processes that hold gigabytes and notice a lost parent late or never. The kernel can
kill a child when its parent goes, but only if the child asks. vLLM runs its general plugins at the start
of each of its processes; this module is registered as one (entry point group `vllm.general_plugins`).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

from tritonllm.runtime import cpu_lora, shared_names

VARIABLE = "TRITONLLM_DIE_WITH_PARENT"
PLUGIN = "tritonllm_die_with_parent"

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def enable(environment: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Makes every vLLM process below this one die with its parent. Before vLLM is imported.

    The kernel means the *thread* that made the child: the one that starts the engine must outlive it.
    """
    environment[VARIABLE] = "1"
    # A forked process inherits "plugins are loaded" and skips them. It would inherit Triton's locks as well.
    environment["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    allowed = environment.get("VLLM_PLUGINS")
    if allowed is not None and PLUGIN not in allowed.split(","):
        environment["VLLM_PLUGINS"] = f"{allowed},{PLUGIN}"


def register() -> None:
    """Runs in every process of every vLLM in this environment; acts only in the children of `enable`'s."""
    parent = multiprocessing.parent_process()
    if VARIABLE not in os.environ or parent is None:
        return
    shared_names.enable()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent.pid:
        # It went before the kernel was told to watch it.
        os.kill(os.getpid(), signal.SIGKILL)
    cpu_lora.enable()
