"""Streams: silence, failures in the middle, clients that leave. The application is called as uvicorn calls it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest

import gateway_server
from scripted_upstream import ScriptedUpstream, end, piece
from tritonllm import errors
from tritonllm.gateway import app, records, sse
from virtual_time import VirtualLoop

BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


class Exchange:
    """One request to the application.

    Attributes:
        sent: what the application has sent, with the time of each message.
        scope: of the request.
    """

    def __init__(
        self, upstream: ScriptedUpstream, body: Any = BODY, path: str = "/v1/chat/completions"
    ) -> None:
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [],
            "query_string": b"",
            "state": {},
        }
        self._app = app.create_app(upstream)
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._received.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})

    def leave(self) -> None:
        self._received.put_nowait({"type": "http.disconnect"})

    async def run(self) -> None:
        await self._app(self.scope, self._received.get, self._send)  # pyright: ignore[reportArgumentType]

    async def _send(self, message: Any) -> None:
        self.sent.append((asyncio.get_running_loop().time(), message))

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for _, message in self.sent).decode()


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(test())  # pyright: ignore[reportArgumentType]
    finally:
        loop.close()


def test_silence_is_broken_by_comments() -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([piece("Hel")])
        upstream.held = True
        exchange = Exchange(upstream)
        running = asyncio.create_task(exchange.run())
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(40)
        upstream.calls[0].arrived(end("lo"), final=True)
        await running
        comments = [time - began for time, message in exchange.sent if message.get("body") == sse.KEEP_ALIVE]
        assert comments == pytest.approx([15, 30])
        assert exchange.text.endswith("data: [DONE]\n\n")

    in_virtual_time(test)


def test_a_text_now_and_then_is_no_silence() -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([piece("a")])
        upstream.held = True
        exchange = Exchange(upstream)
        running = asyncio.create_task(exchange.run())
        for _ in range(5):
            await asyncio.sleep(10)
            upstream.calls[0].arrived(piece("b"), final=False)
        upstream.calls[0].arrived(end(""), final=True)
        await running
        assert sse.KEEP_ALIVE.decode() not in exchange.text

    in_virtual_time(test)


def test_a_request_that_waits_long_for_its_turn_gets_a_stream_of_comments_and_then_its_error() -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([])
        exchange = Exchange(upstream)
        running = asyncio.create_task(exchange.run())
        await asyncio.sleep(20)
        upstream.calls[0].failed(errors.RequestError("unavailable", "", "the endpoint is being restarted"))
        await running
        assert exchange.sent[0][1]["status"] == 200
        comment, error, done = exchange.text.removesuffix("\n\n").split("\n\n")
        assert comment == ": keep-alive"
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "unavailable"
        assert done == "data: [DONE]"
        assert records.of(exchange.scope).error == "unavailable"

    in_virtual_time(test)


def test_a_request_that_fails_before_its_first_text_has_a_status() -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([])
        exchange = Exchange(upstream)
        running = asyncio.create_task(exchange.run())
        await asyncio.sleep(10)
        upstream.calls[0].failed(errors.RequestError("unavailable", "", "the endpoint is being restarted"))
        await running
        assert exchange.sent[0][1]["status"] == 503

    in_virtual_time(test)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_aborts_its_request_at_once(stream: bool) -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([piece("Hel", num_input_tokens=[7])])
        upstream.held = True
        exchange = Exchange(upstream, {**BODY, "stream": stream})
        running = asyncio.create_task(exchange.run())
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(1)
        exchange.leave()
        await running
        assert asyncio.get_running_loop().time() == began + 1
        assert upstream.closed == 1
        record = records.of(exchange.scope)
        assert (record.input_tokens, record.output_tokens, record.error) == (7, 1, "")
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(test)


def test_a_task_that_is_cancelled_by_the_server_aborts_its_request_and_stays_cancelled() -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([piece("Hel")])
        upstream.held = True
        running = asyncio.create_task(Exchange(upstream).run())
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert upstream.closed == 1

    in_virtual_time(test)


def test_nothing_runs_on_after_a_stream() -> None:
    async def test() -> None:
        exchange = Exchange(ScriptedUpstream([piece("Hel"), end("lo")]))
        await exchange.run()
        await asyncio.sleep(0)
        assert exchange.sent[-1][1]["more_body"] is False
        assert len(asyncio.all_tasks()) == 1
        record = records.of(exchange.scope)
        assert (record.endpoint, record.output_tokens, record.finish_reason) == ("chat", 2, "stop")

    in_virtual_time(test)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([piece("Hel"), errors.RequestError("engine_failure", "", "the engine has died")], "engine_failure"),
        ([piece("Hel"), end("", reason="timeout")], "timeout"),
        ([piece("Hel"), end("", reason="cancelled")], "cancelled"),
    ],
)
def test_a_failure_in_the_middle_is_an_event_and_the_end(script: Any, code: str) -> None:
    async def test() -> None:
        upstream = ScriptedUpstream(script[:1])
        upstream.held = True
        exchange = Exchange(upstream)
        running = asyncio.create_task(exchange.run())
        await asyncio.sleep(1)
        last = script[1]
        call = upstream.calls[0]
        if isinstance(last, errors.RequestError):
            call.failed(last)
        else:
            call.arrived(last, final=True)
        await running
        *_, error, done = exchange.text.removesuffix("\n\n").split("\n\n")
        assert '"content":"Hel"' in exchange.text
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == code
        assert done == "data: [DONE]"
        assert records.of(exchange.scope).error == code

    in_virtual_time(test)


def test_a_bug_in_the_middle_is_an_event_too_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        upstream = ScriptedUpstream([piece("Hel")])
        upstream.held = True
        exchange = Exchange(upstream)
        running = asyncio.create_task(exchange.run())
        await asyncio.sleep(1)
        upstream.calls[0].arrived({"unknown": []}, final=True)
        await running
        assert '"code":"internal"' in exchange.text
        assert "KeyError" in caplog.text

    in_virtual_time(test)


def test_openais_client_raises_what_fails_in_the_middle() -> None:
    upstream = ScriptedUpstream(
        [piece("Hel"), errors.RequestError("engine_failure", "", "the engine has died")]
    )
    with gateway_server.serve(app.create_app(upstream)) as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        stream = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="the engine has died"):
            list(stream)


def test_a_connection_that_is_cut_aborts_its_request() -> None:
    upstream = ScriptedUpstream([piece("Hel")])
    upstream.held = True
    aborted = threading.Event()
    closed = upstream._closed

    def noted(number: int) -> None:
        closed(number)
        aborted.set()

    upstream._closed = noted  # pyright: ignore[reportAttributeAccessIssue]
    content = json.dumps(BODY).encode()
    with gateway_server.serve(app.create_app(upstream)) as served:
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=10)
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
            % (len(content), content)
        )
        received = b""
        while b'"Hel"' not in received:
            received += connection.recv(4096)
        connection.close()
        assert aborted.wait(30)


def test_several_streams_at_once_are_not_mixed_up() -> None:
    upstream = ScriptedUpstream(lambda asked: [piece(asked["text_input"]) for _ in range(50)] + [end("")])

    async def ask(client: httpx.AsyncClient, text: str) -> str:
        answer = await client.post("/v1/completions", json={"model": "chat", "prompt": text, "stream": True})
        chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
        return "".join(chunk["choices"][0]["text"] for chunk in chunks)

    async def all_of_them() -> list[str]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
            return await asyncio.gather(*(ask(client, chr(97 + index)) for index in range(20)))

    with gateway_server.serve(app.create_app(upstream)) as served:
        assert asyncio.run(all_of_them()) == [chr(97 + index) * 50 for index in range(20)]
