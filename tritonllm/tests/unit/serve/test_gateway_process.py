"""The gateway beside tritonserver: it is started, asked whether it is ready, and restarted when it ends or hangs."""

from __future__ import annotations

import io
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tritonllm.serve import gateway, options, report

# Answers with the content of a file; without the file it does not answer at all.
PROGRAM = """
import http.server, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, _, body = pathlib.Path(sys.argv[2]).read_text().partition(" ")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *args):
        pass
print("listens", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Fixture:
    def __init__(self, tmp_path: Path) -> None:
        self.answer = tmp_path / "answer"
        self.answer.write_text("200 ok")
        self.reported = io.StringIO()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.started: list[gateway.Gateway] = []

    def start(self, program: str = PROGRAM) -> gateway.Gateway:
        command = [sys.executable, "-c", program, str(self.port), str(self.answer)]
        made = gateway.Gateway(
            command, f"http://127.0.0.1:{self.port}", {}, io.BytesIO(), report.Lines(self.reported)
        )
        self.started.append(made)
        return made


@pytest.fixture
def fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fixture]:
    monkeypatch.setattr(gateway, "_PROBE_PAUSE", 0.01)
    made = Fixture(tmp_path)
    yield made
    for each in made.started:
        each.drain()
        until(lambda each=each: not each.running())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_ready_when_it_says_so_and_otherwise_says_why(fixture: Fixture) -> None:
    started = fixture.start()
    assert started.problem() == "the gateway is starting"
    until(lambda: started.problem() is None)
    fixture.answer.write_text("503 no endpoints")
    until(lambda: started.problem() == "the gateway is not ready: no endpoints")


def test_one_that_worked_and_ends_is_started_again_at_once(fixture: Fixture) -> None:
    started = fixture.start()
    until(lambda: started.problem() is None)
    first = started.session
    assert started._process is not None
    started._process.kill()
    until(lambda: started.problem() is None and started.session not in (None, first))
    assert "the gateway ended (killed by SIGKILL); its last lines:\n    listens\nrestarting it" in (
        fixture.reported.getvalue()
    )


def test_one_that_can_not_start_is_tried_again_later_with_its_last_lines_as_the_reason(
    fixture: Fixture,
) -> None:
    started = fixture.start("raise SystemExit('the port is in use')")
    until(lambda: "the port is in use" in (started.problem() or ""))
    assert "restarting it in 2 s" in fixture.reported.getvalue()


def test_one_that_hangs_is_killed_and_started_again(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_HUNG_SECONDS", 0.2)
    monkeypatch.setattr(gateway, "_PROBE_SECONDS", 0.1)
    started = fixture.start()
    until(lambda: started.problem() is None)
    first = started.session
    fixture.answer.unlink()
    until(lambda: "has not answered for 0 s" in fixture.reported.getvalue())
    fixture.answer.write_text("200 ok")
    until(lambda: started.problem() is None and started.session not in (None, first))


def test_once_it_is_asked_to_end_it_is_not_started_again(fixture: Fixture) -> None:
    started = fixture.start()
    until(lambda: started.problem() is None)
    started.drain()
    until(lambda: not started.running())
    until(lambda: not started._thread.is_alive())
    assert fixture.reported.getvalue() == ""


def test_the_command_line_has_the_options_of_serve() -> None:
    chosen = options.Options(
        files=(),
        weights="/w",
        host="::",
        gateway=options.Gateway(port=1, workers=2, api_keys=Path("/keys"), cors_origins=("https://a",)),
    )
    assert gateway.arguments(chosen, Path("/run"))[3:] == [
        "gateway",
        "--run-directory=/run",
        "--host=::",
        "--port=1",
        "--workers=2",
        "--drain-seconds=10",
        "--api-keys=/keys",
        "--cors-origin=https://a",
    ]
