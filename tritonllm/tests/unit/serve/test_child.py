"""The output of a program that the supervisor runs."""

from __future__ import annotations

import io
import os
import sys

from tritonllm.serve import child, watch

# It writes one step of a progress bar, and then hangs.
_BAR = "import signal, sys; sys.stdout.write('start\\n10%\\r20%\\r'); sys.stdout.flush(); signal.pause()"


def _run(script: str) -> tuple[child.Child, io.BytesIO]:
    output = io.BytesIO()
    return child.Child("program", [sys.executable, "-c", script], os.environ, output), output


def test_a_progress_bar_is_read_while_it_runs_and_passed_on_as_it_is() -> None:
    running, output = _run(_BAR)
    try:
        assert watch.within(10, lambda: len(running.log.last(10)) == 3)
        assert running.exit_status() is None
    finally:
        running.kill()
    running.close()
    assert running.log.last(10) == ["start", "10%", "20%"]
    assert output.getvalue() == b"start\n10%\r20%\r"


def test_the_last_line_counts_without_a_newline() -> None:
    running, _ = _run("import sys; sys.stdout.write('Traceback\\nKeyError: 1')")
    assert watch.within(10, lambda: running.exit_status() is not None)
    running.close()
    assert running.log.last(10) == ["Traceback", "KeyError: 1"]


def test_output_that_is_no_text_does_not_end_the_reader() -> None:
    running, _ = _run("import sys; sys.stdout.buffer.write(bytes([255, 254, 10]) + b'next')")
    assert watch.within(10, lambda: running.exit_status() is not None)
    running.close()
    assert running.log.last(1) == ["next"]
