"""Who asks to die with its parent, and who must not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tritonllm.runtime import die_with_parent


def test_vllm_finds_it_under_the_name_that_is_always_allowed() -> None:
    [plugin] = importlib.metadata.entry_points(group="vllm.general_plugins", name=die_with_parent.PLUGIN)
    assert plugin.load() is die_with_parent.register


def test_vllm_is_told_to_spawn_because_a_forked_process_skips_plugins() -> None:
    environment: dict[str, str] = {}
    die_with_parent.enable(environment)
    assert environment == {die_with_parent.VARIABLE: "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


def test_a_list_of_allowed_plugins_gets_this_one_once() -> None:
    environment = {"VLLM_PLUGINS": "mine"}
    die_with_parent.enable(environment)
    die_with_parent.enable(environment)
    assert environment["VLLM_PLUGINS"] == f"mine,{die_with_parent.PLUGIN}"


_PARENT = """
import multiprocessing, sys, time
from tritonllm.runtime import die_with_parent

def child(pipe):
    die_with_parent.register()
    pipe.send(multiprocessing.current_process().pid)
    time.sleep(600)

if __name__ == "__main__":
    here, there = multiprocessing.get_context("spawn").Pipe()
    multiprocessing.get_context("spawn").Process(target=child, args=(there,)).start()
    print(here.recv(), flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def killed_parents_child(directory: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A process that called `register`, and whose parent has just been killed."""
    script = directory / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    try:
        yield child
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def test_a_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    with killed_parents_child(tmp_path, {die_with_parent.VARIABLE: "1"}) as child:
        assert psutil.wait_procs([child], timeout=30)[1] == []


def test_a_vllm_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    with killed_parents_child(tmp_path, {}) as child:
        assert psutil.wait_procs([child], timeout=0.5)[1] == [child]


def test_the_process_that_runs_the_engine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(die_with_parent.VARIABLE, "1")
    assert multiprocessing.parent_process() is None
    # With a parent that is not its own it would end here.
    die_with_parent.register()
