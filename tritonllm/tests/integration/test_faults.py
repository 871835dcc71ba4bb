"""Clients that misbehave, changes under load and processes that die: each request ends once, and nobody else notices.

What a request costs while it runs is counted by gauges; after every test they are back at zero.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import httpx
import pytest
import tritonclient.grpc as triton

from integration import ask, server
from tritonllm.runtime import metric_names

GAUGES = (
    metric_names.RUNNING,
    metric_names.WAITING,
    metric_names.ENGINE_RUNNING,
    metric_names.ENGINE_WAITING,
)
# More than any test waits for.
ENDLESS = {"text_input": "Hello", "stream": True, "ignore_eos": True, "max_tokens": 4000}


def endpoint(name: str, seqs: int) -> str:
    return f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  engine: {{type: simulated, args: {{inter_token_seconds: 0.01, max_num_seqs: {seqs}, max_model_len: 100000}}}}
  sampling: {{maxTokensLimit: 4000}}
  guardrails:
    input: [{{name: secret, banned: {{phrases: [swordfish]}}, action: Block}}]
"""


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    with server.running([endpoint("chat", 32), endpoint("narrow", 4)]) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(served: server.Served) -> Iterator[None]:
    yield
    server.until(lambda: busy(served) == 0, 20, lambda: str(ask.metrics(served)))
    assert served.probe("/livez")[0] == 200
    assert finish(served) == "length"


def busy(served: server.Served) -> float:
    return sum(ask.metric(served, gauge) for gauge in GAUGES)


def finish(served: server.Served, name: str = "chat") -> str:
    return ask.generate(served, name, text_input="Hello", max_tokens=3)["finish_reason"]


def connect(
    served: server.Served, name: str, body: bytes, receive_buffer: int | None = None
) -> socket.socket:
    """Sends a request for a stream and reads nothing."""
    host, _, port = served.http.removeprefix("http://").partition(":")
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(10)
    connection.connect((host, int(port)))
    head = f"POST /v2/models/{name}/generate_stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def reset(connection: socket.socket) -> None:
    """Closes a connection without a word, as a client does that is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def load(served: server.Served, model: str, config: dict[str, Any]) -> None:
    with triton.InferenceServerClient(served.grpc) as client:
        client.load_model(model, config=json.dumps(config))


def config(served: server.Served, model: str) -> dict[str, Any]:
    return httpx.get(f"{served.http}/v2/models/{model}/config").json()


def read(served: server.Served, tokens: int) -> dict[str, Any]:
    """Reads a stream to its end; returns its last event."""
    return list(ask.stream(served, "chat", text_input="Hello", ignore_eos=True, max_tokens=tokens))[-1]


def test_requests_that_wait_for_a_place_in_the_engine_do_not_stop_those_that_have_one(
    served: server.Served,
) -> None:
    first = ask.stream(served, "narrow", **ENDLESS)
    next(first)
    waiting = [connect(served, "narrow", json.dumps(ENDLESS).encode()) for _ in range(90)]
    server.until(lambda: ask.metric(served, metric_names.ENGINE_WAITING, endpoint="narrow") > 80, 60)
    started = time.monotonic()
    for _ in range(20):
        next(first)
    assert time.monotonic() - started < 20
    for connection in waiting:
        reset(connection)
    first.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_clients_that_reset_their_connections_harm_nobody(served: server.Served) -> None:
    with futures.ThreadPoolExecutor(4) as pool:
        others = [pool.submit(read, served, 200) for _ in range(4)]
        for number in range(60):
            connection = connect(served, "chat", json.dumps(ENDLESS).encode())
            if number % 2:
                connection.recv(100)
            reset(connection)
        assert [other.result()["num_output_tokens"] for other in others] == [200] * 4


def test_clients_that_never_read_or_never_finish_asking_delay_nobody(served: server.Served) -> None:
    body = json.dumps(ENDLESS).encode()
    deaf = [connect(served, "chat", body, receive_buffer=1024) for _ in range(10)]
    half = [connect(served, "chat", body)]
    for _ in range(50):
        half.append(connect(served, "chat", b""))
        half[-1].sendall(b"POST /v2/models/chat/generate HTTP/1.1\r\nContent-Length: 9999\r\n\r\n{")
    started = time.monotonic()
    assert read(served, 100)["num_output_tokens"] == 100
    assert time.monotonic() - started < 20
    for connection in (*deaf, *half):
        reset(connection)


@pytest.mark.parametrize(
    "hostile",
    [
        {"messages": json.dumps([{"\ud800": "user"}])},
        {"text_input": "Hi", "sampling_parameters": json.dumps({f"key{n}": n for n in range(20_000)})},
        {"text_input": "Hi", "sampling_parameters": "[" * 100_000},
        {"text_input": "x" * (10 << 20)},
    ],
    ids=["half a character", "many mistakes", "deep", "long"],
)
def test_hostile_input_is_refused_in_short_and_at_once(
    served: server.Served, hostile: dict[str, str]
) -> None:
    seconds: list[float] = []
    for _ in range(3):
        started = time.monotonic()
        error = ask.generate(served, "chat", **hostile)["error"]
        seconds.append(time.monotonic() - started)
        assert error.startswith("[invalid_argument] ")
        assert len(error) < 2100
    assert min(seconds) < 2


def test_a_huge_prompt_never_reaches_the_engine(served: server.Served) -> None:
    def size() -> int:
        (name,) = server.owned(served.pid)
        return sum(path.stat().st_size for path in server.shared_memory(name))

    for _ in range(2):
        ask.generate(served, "narrow", text_input="x" * (30 << 20))
    # One copy for the pipeline, and what Triton takes beside it.
    assert size() < 100 << 20


def test_streams_end_well_while_their_pipeline_is_replaced_again_and_again(served: server.Served) -> None:
    original = config(served, "chat")
    with futures.ThreadPoolExecutor(8) as pool:
        # So long that all of them run for a while, however slowly they begin.
        streams = [pool.submit(read, served, 1000) for _ in range(8)]
        server.until(lambda: ask.metric(served, metric_names.RUNNING, endpoint="chat") == 8, 30)
        for number in range(3):
            changed = original | {
                "parameters": original["parameters"] | {"round": {"string_value": str(number)}}
            }
            load(served, "chat", changed)
            streams.append(pool.submit(read, served, 100))
        load(served, "chat", original)
        assert {stream.result()["finish_reason"] for stream in streams} == {"length"}
    server.until(lambda: len(served.stubs("chat")) == 1, 60)
    assert ask.metric(served, metric_names.CAPACITY, endpoint="chat") == 32


def test_a_request_is_not_counted_for_ever_whose_process_was_killed_before_it_said_so(
    served: server.Served,
) -> None:
    # Longer than a process takes to report that it has begun, and killed before it reports that it has ended.
    assert read(served, 50)["num_output_tokens"] == 50
    served.stub("chat").kill()
    server.until(lambda: "chat: recovered" in served.log.read_text(), 60, served.story)
    served.until_ready(60)
    assert busy(served) == 0


def test_endpoint_files_that_break_or_vanish_change_nothing(served: server.Served) -> None:
    def told(times: int) -> bool:
        # They are read again when somebody asks, and asked is at most once a second.
        status, text = served.probe("/readyz")
        assert (status, "narrow" in text) == (200, True)
        return served.log.read_text().count("the last valid version stays in use") == times

    file = served.files[1]
    original = file.read_text()
    file.write_text("kind: [")
    server.until(lambda: told(1), 30, served.story)
    file.unlink()
    server.until(lambda: told(2), 30, served.story)
    file.write_text(original.replace("name: narrow", "name: other"))
    server.until(lambda: "narrow" not in served.probe("/readyz")[1], 30, served.story)
    file.write_text(original)
    server.until(lambda: "narrow" in served.probe("/readyz")[1], 30, served.story)
