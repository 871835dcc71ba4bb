"""A process of a model knows whether another one runs beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MODEL = """
import sys
from tritonllm.runtime import siblings

print(siblings.is_only_instance(), flush=True)
sys.stdin.read()
"""


def start(model: Path, shared_memory: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, str(model), shared_memory]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_first_is_alone_the_second_is_not_and_the_next_after_both_died_is(tmp_path: Path) -> None:
    model, other = tmp_path / "chat.py", tmp_path / "code.py"
    for path in (model, other):
        path.write_text(_MODEL)
    stranger, _ = start(other, "region-0")
    first, first_alone = start(model, "region-1")
    second, second_alone = start(model, "region-2")
    end(first)
    end(second)
    third, third_alone = start(model, "region-3")
    end(third)
    end(stranger)
    assert (first_alone, second_alone, third_alone) == ("True", "False", "True")
