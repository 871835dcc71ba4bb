"""Which descendants of an engine are its workers."""

from __future__ import annotations

import subprocess
import sys

from tritonllm.serve import processes

# prctl(PR_SET_NAME), as setproctitle does; then says that it is done, and waits.
RENAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
print(flush=True)
sys.stdin.read()
"""
ENGINE = f"""
import subprocess, sys
RENAMED = {RENAMED!r}
children = [
    subprocess.Popen([sys.executable, "-c", RENAMED, name], stdout=subprocess.PIPE)
    for name in ("VLLM::Worker_TP0", "ninja")
]
for child in children:
    child.stdout.readline()
print(children[0].pid, flush=True)
sys.stdin.read()
for child in children:
    child.kill()
    child.wait()
"""


def test_only_vllms_own_processes_are_workers() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as engine:
        assert engine.stdout is not None
        worker = int(engine.stdout.readline())
        assert processes.workers([engine.pid]) == {worker}
        assert engine.stdin is not None
        engine.stdin.close()
    assert processes.workers([engine.pid]) == frozenset()
