"""What surrounds the routes, asked over a real uvicorn: keys, limits, bodies, request ids, log and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import gateway_server
from fake_upstream import FakeUpstream
from tritonllm import errors
from tritonllm.gateway import access, bodies, records, stack
from tritonllm.gateway.keys import KeyFile

ASK = "/v1/chat/completions"
KEYS = {"all": "sk-all", "chat-only": "sk-chat-only", "limited": "sk-limited"}


def key_file(path: Path, **extra: str) -> KeyFile:
    entries = {name: {"sha256": hashlib.sha256(secret.encode()).hexdigest()} for name, secret in {**KEYS, **extra}.items()}  # fmt: skip
    entries["chat-only"] |= {"models": ["chat"]}  # pyright: ignore[reportArgumentType]
    entries["limited"] |= {"requestsPerMinute": 2, "tokensPerMinute": 1000, "concurrentRequests": 2}  # pyright: ignore[reportArgumentType]
    new = path.with_suffix(".new")
    new.write_text(json.dumps(entries))
    os.replace(new, path)
    return KeyFile([path])


class Routes:
    """Stands for OpenAI's routes, which report what they do to the record of the request.

    Attributes:
        release: lets requests for `waits` go on.
        waiting: number of requests that wait.
        bodies: the sizes of the bodies that arrived.
    """

    def __init__(self) -> None:
        self.release = threading.Event()
        self.waiting = 0
        self.bodies: list[int] = []
        self.traceparents: list[str] = []
        self.app = Starlette(
            routes=[
                Route(ASK, self.ask, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/models/{model}", self.models),
                Route("/v1/breaks", self.breaks),
                Route("/health", self.health),
            ]
        )

    async def ask(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(len(body))
        asked = json.loads(body)
        record = records.of(request.scope)
        self.traceparents.append(record.traceparent)
        try:
            record.ask(asked["model"])
        except errors.RequestError as error:
            record.fail(error.code)
            return JSONResponse({"error": {"code": error.code}}, errors.TABLE[error.code].status)
        if asked.get("waits"):
            self.waiting += 1
            while not self.release.is_set():  # noqa: ASYNC110 - set by the thread of the test
                await asyncio.sleep(0.005)
        record.finish(input_tokens=3, output_tokens=asked.get("tokens", 4), finish_reason="stop")
        return JSONResponse({"answer": "the text of an answer"})

    async def models(self, request: Request) -> Response:
        record = records.of(request.scope)
        return JSONResponse([name for name in ("chat", "other") if record.allows(name)])

    async def breaks(self, _: Request) -> Response:
        raise RuntimeError("a bug")

    async def health(self, _: Request) -> Response:
        return PlainTextResponse("ok")


@pytest.fixture
def routes() -> Routes:
    return Routes()


@contextlib.contextmanager
def serving(routes: Routes, **settings: Any) -> Iterator[tuple[httpx.Client, gateway_server.Served]]:
    app = stack.build(routes.app, FakeUpstream("chat", "other"), stack.Settings(**settings))
    with (
        gateway_server.serve(app) as served,
        httpx.Client(base_url=served.url, timeout=20, verify=False) as client,
    ):
        yield client, served
        routes.release.set()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


# Keys and limits.


def test_without_keys_everybody_is_let_in(routes: Routes) -> None:
    with serving(routes) as (client, _):
        assert client.post(ASK, json={"model": "chat"}).status_code == 200
        assert client.get("/v1/models", headers=bearer("all")).json() == ["chat", "other"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic sk-all"}, {"Authorization": "Bearer sk-wrong"}])  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/v1/models", ASK, "/v1/nothing", "/beta/litellm_basic_guardrail_api", "//", "/assets"]
)
def test_without_a_valid_key_everything_but_the_page_and_probes_is_refused(
    path: str, headers: dict[str, str], routes: Routes, tmp_path: Path
) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, served):
        answer = client.post(served.url + path, headers=headers, json={"model": "chat"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (
        "invalid_api_key",
        "invalid_request_error",
        None,
    )
    assert "sk-wrong" not in answer.text
    assert routes.bodies == []


@pytest.mark.parametrize("path", ["/", "/assets/page.js", "/health", "/metrics"])
def test_the_page_and_probes_need_no_key(path: str, routes: Routes, tmp_path: Path) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Authorization": "bearer sk-all"}, {"X-Api-Key": "sk-all"}, bearer("all")]
)
def test_a_key_opens_the_routes(headers: dict[str, str], routes: Routes, tmp_path: Path) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        assert client.post(ASK, json={"model": "other"}, headers=headers).status_code == 200


def test_thousands_of_wrong_keys_are_refused_and_disturb_nobody(routes: Routes, tmp_path: Path) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, served):

        def guess(start: int) -> set[int]:
            with httpx.Client(base_url=served.url, timeout=20, verify=False) as guesser:
                return {
                    guesser.post(ASK, json={}, headers={"Authorization": f"Bearer sk-{number}"}).status_code
                    for number in range(start, start + 500)
                }

        with futures.ThreadPoolExecutor(4) as pool:
            guesses = [pool.submit(guess, start) for start in range(0, 2000, 500)]
            answers = [
                client.post(ASK, json={"model": "chat"}, headers=bearer("all")).status_code for _ in range(50)
            ]
            assert all(each.result() == {401} for each in guesses)
        assert set(answers) == {200}
        # Keys that nobody has must not become labels.
        assert "sk-" not in client.get("/metrics").text


def test_a_key_for_one_endpoint_sees_and_asks_only_that(routes: Routes, tmp_path: Path) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        assert client.get("/v1/models", headers=bearer("chat-only")).json() == ["chat"]
        assert client.post(ASK, json={"model": "chat"}, headers=bearer("chat-only")).status_code == 200
        assert client.post(ASK, json={"model": "other"}, headers=bearer("chat-only")).status_code == 403


def test_a_key_that_was_added_or_removed_counts_without_a_restart(
    routes: Routes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritonllm.gateway.keys.RELOAD_SECONDS", 0.01)
    path = tmp_path / "keys.json"
    with serving(routes, keys=key_file(path)) as (client, _):
        new = {"Authorization": "Bearer sk-new"}
        assert client.get("/v1/models", headers=new).status_code == 401
        key_file(path, new="sk-new")
        until(lambda: client.get("/v1/models", headers=new).status_code == 200)

        path.write_text("{broken")
        until(lambda: "tritonllm_gateway_api_keys_valid 0.0" in client.get("/metrics").text)
        assert client.get("/v1/models", headers=new).status_code == 200
        key_file(path)
        until(lambda: client.get("/v1/models", headers=new).status_code == 401)
        assert "tritonllm_gateway_api_keys_valid 1.0" in client.get("/metrics").text
        assert "tritonllm_gateway_api_keys 3.0" in client.get("/metrics").text


def test_requests_beyond_the_limit_of_a_key_get_429_and_when_to_come_back(
    routes: Routes, tmp_path: Path
) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        statuses = [
            client.post(ASK, json={"model": "chat"}, headers=bearer("limited")).status_code for _ in range(2)
        ]
        answer = client.post(ASK, json={"model": "chat"}, headers=bearer("limited"))
        # Others, and what is no work for an endpoint, are not affected.
        assert client.get("/v1/models", headers=bearer("limited")).status_code == 200
        assert client.post(ASK, json={"model": "chat"}, headers=bearer("all")).status_code == 200
    assert statuses == [200, 200]
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_the_tokens_that_a_route_reports_count(routes: Routes, tmp_path: Path) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        assert (
            client.post(ASK, json={"model": "chat", "tokens": 2000}, headers=bearer("limited")).status_code
            == 200
        )
        answer = client.post(ASK, json={"model": "chat"}, headers=bearer("limited"))
    assert answer.status_code == 429
    assert "tokensPerMinute" in answer.json()["error"]["message"]
    assert 55 <= int(answer.headers["retry-after"]) <= 61


def test_requests_in_progress_are_limited_also_if_their_client_has_left(
    routes: Routes, tmp_path: Path
) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, served):
        body = json.dumps({"model": "chat", "waits": True}).encode()
        head = f"POST {ASK} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-limited\r\nContent-Length: {len(body)}\r\n\r\n"
        connections = [served.connect() for _ in range(2)]
        for connection in connections:
            connection.sendall(head.encode() + body)
        until(lambda: routes.waiting == 2)
        answer = client.post(ASK, json={"model": "chat"}, headers=bearer("limited"))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        for connection in connections:
            connection.close()
        routes.release.set()
        until(lambda: "running 1.0" in client.get("/metrics").text)


@pytest.mark.parametrize(
    ("host", "keys", "allow", "may"),
    [
        ("127.0.0.1", False, False, True),
        ("127.8.0.1", False, False, True),
        ("::1", False, False, True),
        ("localhost", False, False, True),
        ("0.0.0.0", False, False, False),
        ("::", False, False, False),
        ("", False, False, False),
        ("10.0.0.1", False, False, False),
        ("localhost.example.com", False, False, False),
        ("0.0.0.0", True, False, True),
        ("0.0.0.0", False, True, True),
    ],
)
def test_without_keys_the_gateway_listens_on_loopback_only_unless_told_otherwise(
    host: str, keys: bool, allow: bool, may: bool
) -> None:
    refusal = access.refusal_to_listen(host, keys=keys, allow_anonymous=allow)
    assert (refusal is None) is may
    if refusal is not None:
        assert "--allow-anonymous" in refusal
        assert "tritonllm keys create" in refusal


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "chat.localhost"]
)
def test_without_keys_this_machine_may_ask(host: str, routes: Routes) -> None:
    with serving(routes, local_only=True) as (client, _):
        own = {"Host": host, "Origin": f"http://{host}"}
        assert client.post(ASK, json={"model": "chat"}, headers={"Host": host}).status_code == 200
        assert client.post(ASK, json={"model": "chat"}, headers=own).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example.com:8080"},
        {"Host": "localhost.example.com"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "[x"},
        {"Host": "10.0.0.1"},
        {"Host": "localhost:8080", "Origin": "https://evil.example.com"},
        {"Host": "localhost:8080", "Origin": "http://localhost:9090"},
        {"Host": "localhost:8080", "Origin": "null"},
    ],
)  # fmt: skip
def test_without_keys_pages_of_other_sites_may_not(headers: dict[str, str], routes: Routes) -> None:
    with serving(routes, local_only=True) as (client, _):
        answer = client.post(ASK, json={"model": "chat"}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "permission_denied"
    assert routes.bodies == []


def test_without_keys_pages_of_a_named_origin_may(routes: Routes) -> None:
    origin = "https://app.example.com"
    with serving(routes, local_only=True, cors_origins=[origin]) as (client, _):
        answer = client.post(ASK, json={"model": "chat"}, headers={"Host": "localhost", "Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin


# Bodies.


def test_a_body_of_10_mb_is_refused_and_the_connection_goes_on(routes: Routes) -> None:
    with serving(routes) as (client, _):
        answer = client.post(ASK, content=b"x" * 10_000_000)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert client.post(ASK, json={"model": "chat"}).status_code == 200
    assert len(routes.bodies) == 1


def test_a_body_in_chunks_without_a_length_is_limited_as_well(routes: Routes) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(12):
            yield b"x" * 1_000_000

    with serving(routes) as (client, _):
        assert client.post(ASK, content=chunks()).status_code == 413
        assert client.post(ASK, content=iter([b'{"model":', b'"chat"}'])).status_code == 200
    assert routes.bodies == [16]


def test_a_body_without_an_end_is_cut_off(routes: Routes) -> None:
    with serving(routes, max_body_bytes=1000) as (_, served), served.connect() as connection:
        connection.sendall(f"POST {ASK} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                sent += connection.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
    assert sent < 100_000_000


def test_a_body_that_does_not_arrive_gets_408(routes: Routes) -> None:
    app = bodies.BodyLimit(routes.app, timeout=0.1)
    with gateway_server.serve(app) as served, served.connect() as connection:
        connection.sendall(f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer
    assert routes.bodies == []


def test_a_client_that_waits_for_100_continue_is_refused_before_it_sends(routes: Routes) -> None:
    with serving(routes) as (_, served), served.connect() as connection:
        head = f"POST {ASK} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while received := connection.recv(65536):
            found += received
    return found


# Request ids, log, metrics.


def test_a_request_id_comes_back_if_it_is_one_and_is_generated_otherwise(routes: Routes) -> None:
    with serving(routes) as (client, _):
        assert client.get("/health", headers={"X-Request-Id": "abc-123"}).headers["x-request-id"] == "abc-123"
        for wrong in ("", "a b", "x" * 129, 'a"b', "{}"):
            found = client.get("/health", headers={"X-Request-Id": wrong}).headers["x-request-id"]
            assert re.fullmatch(r"req_[0-9a-f]{32}", found)
        assert "x-request-id" in client.get("/nothing").headers
        assert "x-request-id" in client.post(ASK, content=b"x" * 10_000_000).headers


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_valid_traceparent_is_handed_on_and_an_invalid_one_is_not(routes: Routes) -> None:
    with serving(routes) as (client, _):
        for value in (TRACEPARENT, "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "x"):
            client.post(ASK, json={"model": "chat"}, headers={"traceparent": value})
    assert routes.traceparents == [TRACEPARENT, "", ""]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        json.loads(record.message) for record in caplog.records if record.name == "tritonllm.gateway.access"
    ]


def test_the_log_has_a_line_for_each_request_without_any_text(
    routes: Routes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        headers = {**bearer("chat-only"), "X-Request-Id": "abc"}
        client.post(
            ASK + "?q=the+query", json={"model": "chat", "prompt": "the text of a prompt"}, headers=headers
        )
        client.post(ASK, json={"model": "other"}, headers=headers)
        client.post(ASK, json={"model": "chat"}, headers={"Authorization": "Bearer sk-wrong"})
        client.get("/v1/models/the-model", headers=headers)
        client.get("/v1/made-up", headers=headers)
        client.get("/health")
        client.get("/metrics")
    found = lines(caplog)
    assert [(line["route"], line["status"], line["error"]) for line in found] == [
        (ASK, 200, ""),
        (ASK, 403, "model_not_allowed"),
        (ASK, 401, "invalid_api_key"),
        ("/v1/models/{model}", 200, ""),
        ("unmatched", 404, ""),
    ]
    first = found[0]
    assert 0 < first.pop("first_byte_seconds") <= first.pop("seconds") < 60
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "method": "POST",
        "route": ASK,
        "status": 200,
        "endpoint": "chat",
        "key": "chat-only",
        "input_tokens": 3,
        "output_tokens": 4,
        "finish_reason": "stop",
        "error": "",
        "request_id": "abc",
        "traceparent": "",
        "client": "127.0.0.1",
    }
    assert found[2]["key"] == ""
    for text in ("the text", "the-model", "made-up", "query", "sk-"):
        assert text not in "".join(record.message for record in caplog.records if "gateway" in record.name)


def test_a_bug_is_500_in_log_and_metrics(routes: Routes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(routes) as (client, _):
        answer = client.get("/v1/breaks", headers={"X-Request-Id": "abc"})
        assert answer.status_code == 500
        assert answer.headers["x-request-id"] == "abc"
        assert 'route="/v1/breaks",status="500"' in client.get("/metrics").text
    assert lines(caplog)[0]["status"] == 500


def samples(text: str) -> dict[str, float]:
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines()) if name[:1] not in ("", "#")}  # fmt: skip


def test_metrics_count_requests_and_tokens_by_key(routes: Routes, tmp_path: Path) -> None:
    with serving(routes, keys=key_file(tmp_path / "keys.json")) as (client, _):
        for _ in range(3):
            client.post(ASK, json={"model": "chat"}, headers=bearer("all"))
        client.post(ASK, json={"model": "chat"})
        for number in range(5):
            client.get(f"/v1/made-up-{number}", headers=bearer("all"))
        found = samples(client.get("/metrics").text)
    requests = "tritonllm_gateway_requests_total"
    assert found[f'{requests}{{endpoint="chat",key="all",route="{ASK}",status="200"}}'] == 3
    assert found[f'{requests}{{endpoint="",key="",route="{ASK}",status="401"}}'] == 1
    assert found[f'{requests}{{endpoint="",key="all",route="unmatched",status="404"}}'] == 5
    assert found['tritonllm_gateway_input_tokens_total{endpoint="chat",key="all"}'] == 9
    assert found['tritonllm_gateway_output_tokens_total{endpoint="chat",key="all"}'] == 12
    assert found[f'tritonllm_gateway_request_seconds_count{{endpoint="chat",route="{ASK}"}}'] == 3
    assert found[f'tritonllm_gateway_first_byte_seconds_count{{endpoint="chat",route="{ASK}"}}'] == 3
    # The scrape itself.
    assert found["tritonllm_gateway_requests_running"] == 1
    assert found["tritonllm_gateway_api_keys"] == 3


def test_other_origins_may_read_answers_only_if_they_are_named(routes: Routes, tmp_path: Path) -> None:
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    keys = key_file(tmp_path / "keys.json")
    with serving(routes, keys=keys) as (client, _):
        assert client.options(ASK, headers=asked).status_code == 401
        answer = client.post(
            ASK, json={"model": "chat"}, headers={**bearer("all"), "Origin": asked["Origin"]}
        )
        assert "access-control-allow-origin" not in answer.headers
    with serving(Routes(), keys=keys, cors_origins=["https://app.example.com"]) as (client, _):
        assert client.options(ASK, headers=asked).headers["access-control-allow-origin"] == asked["Origin"]
        # A refusal can be read as well.
        answer = client.post(ASK, json={"model": "chat"}, headers={"Origin": asked["Origin"]})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == asked["Origin"]
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
        other = client.options(ASK, headers={**asked, "Origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in other.headers
