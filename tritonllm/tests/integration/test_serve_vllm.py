"""The supervisor over real vLLM, whose processes and shared memory are many: whoever is killed, nothing stays."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

import models
from integration import ask, server
from tritonllm import versions
from tritonllm.serve import processes

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(400),
]


def endpoint(weights: Path) -> str:
    return f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: chat}}
spec:
  pool: test
  model: {{path: {weights}}}
  engine: {{type: vllm, args: {{enforce_eager: true, max_model_len: 256, max_num_seqs: 8}}}}
  guardrails: {{}}
"""


def below(served: server.Served) -> list[psutil.Process]:
    return psutil.Process(served.pid).children(recursive=True)


def mapped(family: list[psutil.Process]) -> set[Path]:
    """Files in shared memory that processes work with."""
    lines = [
        line for process in family for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    ]
    # proc(5): address perms offset dev inode pathname, and then "(deleted)" where it has no name any more.
    paths = [Path(fields[5]) for line in lines if len(fields := line.split()) == 6]
    return {path for path in paths if path.parent == Path("/dev/shm")}


def answers(served: server.Served) -> bool:
    return ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def works_again(served: server.Served) -> bool:
    # Alone if no lease held the engine, otherwise with all of tritonserver: one lasts a second beyond the last request.
    log = served.log.read_text()
    return "chat-engine: recovered" in log or log.count("ready: chat at") == 2


def test_whoever_is_killed_neither_processes_nor_shared_memory_stay(tmp_path: Path) -> None:
    with server.running([endpoint(models.tiny_llama(tmp_path / "weights"))], seconds=270) as served:
        assert answers(served)
        (name,) = server.owned(served.pid)
        engine = served.stub("chat-engine")
        family = [engine, *engine.children(recursive=True)]
        assert len(family) >= 3, "vLLM's own processes are missing"
        assert processes.workers([engine.pid]) <= {process.pid for process in family}
        assert processes.workers([engine.pid]), "vLLM's workers are not recognized by their names"
        own = mapped(family)
        assert own <= server.shared_memory(name)

        engine.kill()
        server.until(lambda: "chat-engine: its process died" in served.log.read_text(), 30, served.story)
        server.until(lambda: works_again(served), 180, served.story)
        assert answers(served)
        assert not [process for process in family if process.is_running()]
        # Triton's own regions of the other models stay, and nothing that no living process works with.
        new = server.shared_memory(name) - {Path(f"/dev/shm/{name}-owner")}
        assert not own & new
        assert {path for path in new if not path.name.startswith("sem.")} == mapped(below(served))

        os.kill(served.pid, signal.SIGKILL)
        served.process.wait(30)
    # That nothing is left of all this is what `running` checks at its end.
