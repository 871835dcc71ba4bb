"""Clients that occupy a connection without asking, and what the others notice of them: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import gateway_server
from tritonllm.gateway import connections


class Streams:
    """An application with one short answer and one endless one.

    Attributes:
        left: set when the endless answer was abandoned.
    """

    def __init__(self) -> None:
        self.left = threading.Event()
        self.app = Starlette(
            routes=[Route("/short", self.short, methods=["GET", "POST"]), Route("/endless", self.endless)]
        )

    async def short(self, request: Request) -> Response:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    async def endless(self, _: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
                    # As an answer waits for the model; without it nothing else would run.
                    await asyncio.sleep(0)
            finally:
                self.left.set()

        return StreamingResponse(chunks())


class Hasty(connections.Connection):
    """Has limits that a client keeps although the machine is busy, and that a test can wait for."""

    header_seconds = 1.0
    write_seconds = 1.0


@pytest.fixture
def streams() -> Streams:
    return Streams()


@contextlib.contextmanager
def serving(
    streams: Streams, kind: type[connections.Connection] = connections.Connection
) -> Iterator[gateway_server.Served]:
    with gateway_server.serve(streams.app, http=kind) as served:
        yield served


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while received := connection.recv(65536):
            found += received
    return found


def short(served: gateway_server.Served, tries: int = 1) -> float:
    """Seconds that a well-behaved client waits for a short answer: the least of some tries."""
    waits: list[float] = []
    with httpx.Client(base_url=served.url, timeout=30, verify=False) as client:
        for _ in range(tries):
            began = time.monotonic()
            assert client.get("/short", headers={"Connection": "close"}).text == "0 bytes"
            waits.append(time.monotonic() - began)
    return min(waits)


HEAD = b"GET /short HTTP/1.1\r\nHost: x\r\n"


def test_a_request_in_pieces_is_answered(streams: Streams) -> None:
    with serving(streams) as served, served.connect() as connection:
        for byte in HEAD + b"Connection: close\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_many_requests_on_one_connection_do_not_add_up(streams: Streams) -> None:
    large = b"x" * 100_000
    with serving(streams) as served, httpx.Client(base_url=served.url, timeout=30) as client:
        for _ in range(20):
            assert (
                client.post("/short", content=large, headers={"X-Long": "y" * 20_000}).text == "100000 bytes"
            )
        assert len(served.server.server_state.connections) == 1


def test_pipelined_requests_are_answered(streams: Streams) -> None:
    body = b"POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
    with serving(streams) as served, served.connect() as connection:
        connection.sendall(body * 3 + HEAD + b"Connection: close\r\n\r\n")
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200") == 4


@pytest.mark.parametrize("flood", [b"X-A: " + b"x" * 1_000_000, b"X-A: x\r\n" * 100_000, b"X-" + b"x" * 1_000_000], ids=["value", "number", "name"])  # fmt: skip
def test_a_flood_of_headers_gets_431(flood: bytes, streams: Streams) -> None:
    with serving(streams) as served, served.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(HEAD + flood)
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 431")
        assert b'"code":"request_too_large"' in answer
        short(served)


def test_headers_that_are_too_large_but_arrive_at_once_get_431(streams: Streams) -> None:
    with serving(streams) as served, httpx.Client(base_url=served.url, timeout=30, verify=False) as client:
        few = {f"X-{number}": "y" * 100 for number in range(100)}
        many = {f"X-{number}": "y" * 100 for number in range(400)}
        assert client.get("/short", headers=few).status_code == 200
        assert client.get("/short", headers=many).status_code == 431
        assert client.get("/short", params={"q": "x" * 40_000}).status_code == 431
        assert client.get("/short").status_code == 200


def test_a_long_path_gets_431(streams: Streams) -> None:
    with serving(streams) as served, served.connect() as connection:
        connection.sendall(b"GET /" + b"x" * 300_000)
        assert read_all(connection).startswith(b"HTTP/1.1 431")


def test_a_flood_without_an_end_is_cut_off(streams: Streams) -> None:
    with serving(streams) as served, served.connect() as connection:
        connection.sendall(HEAD)
        over = time.monotonic() + 30
        with contextlib.suppress(ConnectionError):
            while True:
                assert time.monotonic() < over
                connection.sendall(b"X-A: x\r\n" * 1000)


def test_a_connection_without_a_request_is_closed(streams: Streams) -> None:
    with serving(streams, Hasty) as served, served.connect() as connection:
        assert read_all(connection) == b""


def test_headers_that_trickle_in_get_408(streams: Streams) -> None:
    with serving(streams, Hasty) as served, served.connect() as connection:
        connection.sendall(HEAD)
        answer = b""
        connection.settimeout(0.02)
        while not answer:
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"X-A: x\r\n")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"code":"request_timeout"' in answer


def test_headers_of_a_second_request_that_trickle_in_get_408(streams: Streams) -> None:
    with serving(streams, Hasty) as served, served.connect() as connection:
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_an_answer_may_take_longer_than_headers_may(streams: Streams) -> None:
    with serving(streams, Hasty) as served, served.connect() as connection:
        # The start of another request meanwhile does not end the answer either.
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\nGET")
        began = time.monotonic()
        while time.monotonic() - began < 2 * Hasty.header_seconds:
            assert connection.recv(65536)


def test_a_client_that_does_not_read_is_disconnected_and_its_request_ends(streams: Streams) -> None:
    with serving(streams, Hasty) as served, served.connect() as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert streams.left.wait(30)


def test_a_client_that_reads_keeps_its_answer_although_it_is_slower_than_the_server(streams: Streams) -> None:
    with serving(streams, Hasty) as served, served.connect() as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 2 * Hasty.write_seconds:
            assert connection.recv(10_000)
        assert not streams.left.is_set()


def test_a_thousand_connections_that_ask_nothing_disturb_nobody_and_are_closed(streams: Streams) -> None:
    class Patient(connections.Connection):
        header_seconds = 3.0

    with serving(streams, Patient) as served, contextlib.ExitStack() as opened:
        for number in range(1000):
            connection = opened.enter_context(served.connect())
            if number % 2:
                connection.sendall(b"GET /sho")
        assert short(served, tries=5) < 2
        deadline = time.monotonic() + 60
        while len(served.server.server_state.connections) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert short(served, tries=5) < 2


def test_uvicorn_has_none_of_these_limits_itself() -> None:
    """When this fails, look whether uvicorn's own can be used instead."""
    known = uvicorn.Config.__init__.__annotations__
    assert {name for name in known if name.startswith(("limit_", "timeout_", "h11_"))} == {
        "limit_concurrency",
        "limit_max_requests",
        "limit_max_requests_jitter",
        "timeout_keep_alive",
        "timeout_notify",
        "timeout_graceful_shutdown",
        "timeout_worker_healthcheck",
        "h11_max_incomplete_event_size",
    }
