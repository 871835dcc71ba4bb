"""Triton's API and its failures; and the command line that starts it."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonllm.serve import api_lock, binaries, control_api, options, triton

METRICS = """# HELP tritonllm_requests_running Requests being answered
# TYPE tritonllm_requests_running gauge
tritonllm_requests_running{endpoint="a b"} 2
tritonllm_requests_running{endpoint="c"} 1.000000
tritonllm_requests_running_total 40
tritonllm_requests_waiting 4
"""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tritonllm_requests_running"], 3),
        (["tritonllm_requests_running", "tritonllm_requests_waiting"], 7),
        (["absent"], 0),
    ],
)
def test_gauges_of_all_endpoints_are_added_up(names: list[str], expected: float) -> None:
    assert control_api.total(METRICS, names) == expected


def test_a_server_that_is_gone_refuses_connections() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        asker = control_api.ControlApi(f"http://{address}", address, f"http://{address}")
        assert not asker.live()
        with pytest.raises(control_api.Gone, match="refused"):
            asker.index()
        with pytest.raises(control_api.Gone, match="refused"):
            asker.load("chat")


def test_a_server_that_is_slow_is_not_gone() -> None:
    # It accepts connections into its backlog and answers none.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        asker = control_api.ControlApi(f"http://{address}", address, f"http://{address}")
        with pytest.raises(control_api.TimedOut, match=r"no answer within 0\.05 s"):
            asker.index(seconds=0.05)
        with pytest.raises(control_api.TimedOut):
            asker.load("chat", seconds=0.05)


def test_a_server_that_closes_the_connection_is_gone() -> None:
    def close(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        closing = threading.Thread(target=close, args=(listener,))
        closing.start()
        with pytest.raises(control_api.Gone):
            control_api.ControlApi(f"http://{address}", address, "").index()
        closing.join(30)


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[control_api.ControlApi, list[tuple[str, bytes]]]]:
    """A server that gives everything the same answer, and the requests it got."""
    requests: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield control_api.ControlApi(url, "", url), requests
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b"5", b"[1]", b'["state"]', b'[{"state": "READY"}]', b"\xff"]
)
def test_an_index_that_is_not_tritons_is_an_error_with_the_answer(body: bytes) -> None:
    with (
        answering(200, body) as (asker, _),
        pytest.raises(control_api.Refused, match="unexpected answer to a request for the repository index"),
    ):
        asker.index()


def test_models_that_were_never_loaded_have_no_state() -> None:
    with answering(200, b'[{"name": "a", "state": "READY"}, {"name": "b"}]') as (asker, _):
        assert asker.index() == {"a": "READY"}


def test_metrics_that_are_no_numbers_are_an_error() -> None:
    with (
        answering(200, b"tritonllm_requests_running many") as (asker, _),
        pytest.raises(control_api.Refused, match="unexpected answer to a request for metrics"),
    ):
        asker.total(["tritonllm_requests_running"])


def test_a_pipeline_answers_if_it_rejects_a_request_without_a_prompt() -> None:
    with answering(400, b'{"error": "[invalid_argument] text_input: is missing"}') as (asker, requests):
        asker.ask_pipeline("chat", seconds=5)
    assert requests == [("/v2/models/chat/generate", b"{}")]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b'{"error": "Stub process is not healthy."}', "Stub process is not healthy"),
        (200, b'{"text_output": ""}', "it accepted a request without a prompt"),
    ],
)
def test_any_other_answer_of_a_pipeline_is_a_failure(status: int, body: bytes, reason: str) -> None:
    with answering(status, body) as (asker, _), pytest.raises(control_api.Refused, match=reason):
        asker.ask_pipeline("chat", seconds=5)


def test_triton_listens_where_the_user_says() -> None:
    chosen = options.Options(files=(), weights="/w", host="0.0.0.0", http_port=1, grpc_port=2, metrics_port=3)
    command = triton.arguments(
        chosen,
        binaries.Binary(Path("/bin/tritonserver")),
        repository=Path("/r"),
        backends=None,
        region_prefix="mine-",
        gpu=False,
        lock=api_lock.OPEN,
    )
    assert {"--http-address=0.0.0.0", "--http-port=1", "--grpc-port=2", "--metrics-port=3"} <= set(command)
    assert "--backend-config=python,thread-pool-size=8" in command
    assert "--backend-config=python,shm-region-prefix-name=mine-" in command
    assert not any(argument.startswith(("--backend-directory", "--http-restricted")) for argument in command)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_the_supervisor_asks_on_this_machine(host: str, url: str) -> None:
    assert options.Options(files=(), weights="/w", host=host).url(8000) == url
