"""Shared memory of an engine's processes is named after the supervisor that has to remove it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tritonllm.runtime import shared_names

# Prints the names of what a process and a child that it spawned have made.
_SCRIPT = """
import multiprocessing
from multiprocessing import shared_memory
from tritonllm.runtime import shared_names

def make(pipe):
    shared_names.enable()
    region = shared_memory.SharedMemory(create=True, size=8)
    lock = multiprocessing.get_context("spawn").Lock()
    pipe.send([region.name, lock._semlock.name])
    region.close()
    region.unlink()

if __name__ == "__main__":
    shared_names.enable()
    here, there = multiprocessing.get_context("spawn").Pipe()
    make(there)
    child = multiprocessing.get_context("spawn").Process(target=make, args=(there,))
    child.start()
    print(*here.recv(), *here.recv())
    child.join()
"""


def names(directory: Path, environment: dict[str, str]) -> list[str]:
    script = directory / "script.py"
    script.write_text(_SCRIPT)
    environment = {
        key: value for key, value in os.environ.items() if key != shared_names.VARIABLE
    } | environment
    command = [sys.executable, str(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_memory_and_semaphores_have_the_supervisors_name_in_every_process(tmp_path: Path) -> None:
    found = names(tmp_path, {shared_names.VARIABLE: "tritonllm-test-region-"})
    assert len(set(found)) == 4
    assert all(name.lstrip("/").startswith("tritonllm-test-region-") for name in found), found


def test_without_a_supervisor_they_have_pythons_names(tmp_path: Path) -> None:
    found = names(tmp_path, {})
    assert [name.lstrip("/")[:3] for name in found] == ["psm", "mp-", "psm", "mp-"]
